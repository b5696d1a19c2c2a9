// SPDX-License-Identifier: Apache-2.0
// A private network namespace as the engine makes its interface in it: the helper in there opens what it asks
// for.
#pragma once

#include "exit/channel.h"
#include "tun/network.h"

namespace omerta::exit {

class HelperNetwork final : public tun::Network {
 public:
  /// The channel stays the caller's, and open while this is used.
  explicit HelperNetwork(int channel) : channel_(channel) {}

  int open_tun() const override {
    Request request;
    request.wanted = Wanted::tun;
    return ask(channel_, request);
  }
  int open_socket(int family, int type, int protocol) const override {
    Request request;
    request.family = family;
    request.type = type;
    request.protocol = protocol;
    return ask(channel_, request);
  }

 private:
  int channel_;
};

}  // namespace omerta::exit
