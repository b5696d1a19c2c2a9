// SPDX-License-Identifier: Apache-2.0
#include "addon/namespace_calls.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "addon/arguments.h"
#include "exit/channel.h"

namespace omerta::addon {
namespace {

/// The two ends of a channel, or the errno alone.
Napi::Value open_channel(const Napi::CallbackInfo& info) {
  int ends[2];
  auto result = Napi::Array::New(info.Env());
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    result.Set(0U, errno);
  else
    for (uint32_t i = 0; i < 2; i++) result.Set(i, ends[i]);
  return result;
}

/// How the helper began: `{ error, step, descriptors }`.
Napi::Value helper_beginning(const Napi::CallbackInfo& info) {
  std::vector<int> descriptors;
  const exit::Answer answer = exit::receive_answer(info[0].As<Napi::Number>().Int32Value(), descriptors);
  auto result = Napi::Object::New(info.Env());
  auto list = Napi::Array::New(info.Env());
  for (const int each : descriptors) list.Set(list.Length(), each);
  result.Set("error", answer.error);
  result.Set("step", Napi::String::New(info.Env(), answer.step));
  result.Set("descriptors", list);
  return result;
}

/// A socket of the helper's namespace: channel, family, type, protocol; where it is to be bound also the
/// bytes of an address, a port, and whether it is transparent. Below 0: the errno.
Napi::Value open_socket(const Napi::CallbackInfo& info) {
  const auto number = [&](size_t i) { return info[i].As<Napi::Number>().Int32Value(); };
  exit::Request request;
  request.family = number(1);
  request.type = number(2) | SOCK_NONBLOCK;
  request.protocol = number(3);
  if (info.Length() > 4) {
    const Bytes address = bytes_of(info[4], "address");
    std::copy_n(address.begin(), std::min(address.size(), sizeof request.address), request.address);
    request.port = static_cast<uint16_t>(number(5));
    request.bound = 1;
    request.transparent = info[6].As<Napi::Boolean>().Value() ? 1 : 0;
  }
  const int fd = exit::ask(number(0), request);
  return Napi::Number::New(info.Env(), fd < 0 ? -errno : fd);
}

}  // namespace

void export_namespace_calls(Napi::Env env, Napi::Object exports) {
  exports.Set("openChannel", Napi::Function::New(env, open_channel, "openChannel"));
  exports.Set("helperBeginning", Napi::Function::New(env, helper_beginning, "helperBeginning"));
  exports.Set("openSocket", Napi::Function::New(env, open_socket, "openSocket"));
}

}  // namespace omerta::addon
