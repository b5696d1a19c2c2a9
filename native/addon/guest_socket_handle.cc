// SPDX-License-Identifier: Apache-2.0
#include "addon/guest_socket_handle.h"

#include "addon/failures.h"

namespace omerta::addon {

Napi::Function GuestSocketHandle::define(Napi::Env env) {
  return DefineClass(env, "GuestSocket",
                     {InstanceMethod<&GuestSocketHandle::counts>("counts"),
                      InstanceMethod<&GuestSocketHandle::close>("close")});
}

GuestSocketHandle::GuestSocketHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<GuestSocketHandle>(info) {
  const int64_t uid = info[1].As<Napi::Number>().Int64Value();
  const std::optional<uint32_t> user = uid < 0 ? std::nullopt : std::optional(static_cast<uint32_t>(uid));
  socket_ = told(info.Env(), [&] {
    return std::make_shared<guest::GuestSocket>(info[0].As<Napi::String>().Utf8Value(), user);
  });
}

Napi::Value GuestSocketHandle::counts(const Napi::CallbackInfo& info) {
  const guest::SocketCounts counts = socket_->counts();
  const uint64_t all[] = {uint64_t{counts.connected}, counts.connections,   counts.refused,
                          counts.bad_lengths,         counts.bytes_read,    counts.bytes_written,
                          counts.frames_read,         counts.frames_written};
  auto out = Napi::Float64Array::New(info.Env(), std::size(all));
  for (size_t i = 0; i < std::size(all); i++) out[i] = static_cast<double>(all[i]);
  return out;
}

}  // namespace omerta::addon
