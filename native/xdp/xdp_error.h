// SPDX-License-Identifier: Apache-2.0
// Why the kernel path is not there, told so that somebody can do something about it.
#pragma once

#include <stdexcept>
#include <string>

namespace omerta::xdp {

class XdpError : public std::runtime_error {
 public:
  enum class Code {
    permission,   ///< a capability or the mode of a directory
    unsupported,  ///< by this kernel or this driver
    busy,         ///< somebody else's program is attached
    mtu,          ///< too big for native XDP on this driver
    interface,    ///< there is no such one
    bpffs,        ///< no bpf file system is mounted
    self_test,    ///< the kernel made other bytes of a packet than it should
    failed,       ///< anything else
  };

  /// @param remedy what to type, or empty.
  XdpError(Code code, const std::string& message, std::string remedy = {})
      : std::runtime_error(message), code_(code), remedy_(std::move(remedy)) {}

  Code code() const { return code_; }
  const std::string& remedy() const { return remedy_; }
  /// As JavaScript is given it.
  const char* name() const {
    switch (code_) {
      case Code::permission:
        return "PERMISSION";
      case Code::unsupported:
        return "UNSUPPORTED";
      case Code::busy:
        return "BUSY";
      case Code::mtu:
        return "MTU";
      case Code::interface:
        return "NO_INTERFACE";
      case Code::bpffs:
        return "BPFFS";
      case Code::self_test:
        return "SELF_TEST";
      case Code::failed:
        return "FAILED";
    }
    return "FAILED";
  }

 private:
  Code code_;
  std::string remedy_;
};

}  // namespace omerta::xdp
