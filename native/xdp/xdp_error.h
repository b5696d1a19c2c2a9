// SPDX-License-Identifier: Apache-2.0
// Why the kernel path is not there, in codes; ts/engine/xdp/xdp-wording.ts says them in words, and what to
// type.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace omerta::xdp {

class XdpError : public std::runtime_error {
 public:
  enum class Code {
    load_refused,    ///< loading a BPF program is not permitted
    attach_refused,  ///< attaching one is not permitted
    file_refused,    ///< detail: the path; number: errno
    not_loaded,      ///< number: errno; detail: what libbpf says
    not_run,         ///< BPF_PROG_TEST_RUN; number: errno
    no_native_mode,  ///< the driver has none, or not with its settings; number: errno
    busy,            ///< somebody else's program is attached; number: its id, or 0
    mtu,             ///< too big for native XDP on this driver; number: the MTU
    interface,       ///< there is no such one; detail: its name
    bpffs,           ///< no bpf file system is mounted; detail: where
    self_test,       ///< the kernel made other bytes of a packet than it should; detail: of which, and how
    loses_frames,    ///< the driver; number: how many; detail: of how many
    keeps_frames,    ///< a veth, of those it took; number: how many
    attach_failed,   ///< number: errno
    failed,          ///< anything else; detail: what; number: errno
  };

  explicit XdpError(Code code, std::string detail = {}, uint64_t number = 0)
      : std::runtime_error(std::string(name_of(code)) + ": " + detail),
        code_(code),
        detail_(std::move(detail)),
        number_(number) {}

  Code code() const { return code_; }
  const std::string& detail() const { return detail_; }
  uint64_t number() const { return number_; }
  /// As JavaScript is given it.
  const char* name() const { return name_of(code_); }

 private:
  static const char* name_of(Code code) {
    switch (code) {
      case Code::load_refused:
        return "LOAD_REFUSED";
      case Code::attach_refused:
        return "ATTACH_REFUSED";
      case Code::file_refused:
        return "FILE_REFUSED";
      case Code::not_loaded:
        return "NOT_LOADED";
      case Code::not_run:
        return "NOT_RUN";
      case Code::no_native_mode:
        return "NO_NATIVE_MODE";
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
      case Code::loses_frames:
        return "LOSES_FRAMES";
      case Code::keeps_frames:
        return "KEEPS_FRAMES";
      case Code::attach_failed:
        return "ATTACH_FAILED";
      case Code::failed:
        return "FAILED";
    }
    return "FAILED";
  }

  Code code_;
  std::string detail_;
  uint64_t number_;
};

}  // namespace omerta::xdp
