// SPDX-License-Identifier: Apache-2.0
// Routes of relayed WireGuard sessions in the kernel (xdp/routes.h). One control thread.
#pragma once

#include <omerta/wireguard_relay.h>

#include <span>
#include <vector>

namespace omerta::xdp {

class RouteMap {
 public:
  /// @param fd map `routes`
  explicit RouteMap(int fd) : fd_(fd) {}

  /// From now on the map holds these, as far as there is room, and no others; those it has already keep
  /// their counters, unless they go to other accounts. @returns the ones that ended, as they had counted.
  std::vector<omerta_leg> replace(std::span<const omerta_leg> routes);
  /// Adds a route with its counters; false when there is no room.
  bool add(const omerta_leg& route);
  std::vector<omerta_leg> all() const;

 private:
  int fd_;
};

}  // namespace omerta::xdp
