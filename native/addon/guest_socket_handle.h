// SPDX-License-Identifier: Apache-2.0
// The JavaScript object GuestSocket: where QEMU connects the network device of a virtual machine. An engine
// is made with it, and another may be after that one is closed.
#pragma once

#include <napi.h>

#include <memory>

#include "guest/guest_socket.h"

namespace omerta::addon {

class GuestSocketHandle : public Napi::ObjectWrap<GuestSocketHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  /// (path, uid or below 0: whom the file's mode permits). @throws as an engine does
  explicit GuestSocketHandle(const Napi::CallbackInfo& info);

  std::shared_ptr<guest::GuestSocket> socket() const { return socket_; }

 private:
  /// Connected, connections, refused, bad lengths, bytes read, written, frames read, written.
  Napi::Value counts(const Napi::CallbackInfo& info);
  /// After the engine that has it.
  void close(const Napi::CallbackInfo&) { socket_->close(); }

  std::shared_ptr<guest::GuestSocket> socket_;
};

}  // namespace omerta::addon
