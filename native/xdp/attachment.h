// SPDX-License-Identifier: Apache-2.0
// One interface the program is to run on: attached by a link (which nobody else can replace), taken
// over from an earlier daemon, attached again when the interface comes back, given up when its driver
// loses what the program sends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/retry_pause.h"
#include "xdp/delivery_watch.h"
#include "xdp/file_descriptor.h"
#include "xdp/pins.h"

namespace omerta::xdp {

enum class Mode { native, generic };

class Attachment {
 public:
  /// What an operator is told.
  struct Status {
    std::string interface;
    uint32_t index = 0;
    bool attached = false;
    bool adopted = false;  ///< the link is an earlier daemon's
    uint32_t times = 0;    ///< how often it was attached
    std::string driver;    ///< of the interface; empty where the kernel does not say
    /// Whether its driver sends frames that came in by another interface, as far as the kernel tells.
    bool takes_redirected = true;
    std::string code;     ///< why it is not attached: XdpError::name(), or empty
    std::string detail;   ///< XdpError::detail()
    uint64_t number = 0;  ///< XdpError::number()
  };

  Attachment(std::string interface, Mode mode) : interface_(std::move(interface)), mode_(mode) {}

  /// Puts the program on the interface: updates the pinned link there is, or makes one.
  /// Never throws for the interface's sake: what went wrong is in status().
  void attach(int program_fd, const Pins& pins);
  /// Whether the link still is what attach() left; attaches again when the interface has come back.
  /// @param forwarded frames the program has sent so far, on all interfaces.
  void check(int program_fd, const Pins& pins, uint64_t forwarded, Nanoseconds now);
  const Status& status() const { return status_; }

 private:
  bool update_pinned(int program_fd, const Pins& pins, uint32_t index);
  void create(int program_fd, const Pins& pins, uint32_t index);
  void demote_if_losing(const Pins& pins, uint64_t forwarded, Nanoseconds now);
  void demote(const Pins& pins, const XdpError& reason, Nanoseconds until);
  void refuse(const XdpError& reason);
  void look_at_redirection();

  std::string interface_;
  Mode mode_;
  FileDescriptor link_;
  Status status_;
  Nanoseconds demoted_until_ = 0;  ///< 0: it is not
  RetryPause pause_;
  DeliveryWatch deliveries_;
  uint64_t errors_seen_ = 0;
  uint64_t forwarded_seen_ = 0;
};

}  // namespace omerta::xdp
