// SPDX-License-Identifier: Apache-2.0
// A TUN interface with its addresses: one queue per worker, packets carry a virtio_net_hdr so that
// TCP and UDP super-packets cross in one read or write (Linux Documentation/networking/tuntap.rst).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "inner/port.h"
#include "tun/network.h"

namespace omerta::tun {

struct TunSettings {
  std::string name;
  /// Where it is made; nullptr: in the namespace of this process. There it also becomes the way to
  /// everywhere.
  std::shared_ptr<const Network> network;
  std::vector<std::string> addresses;  ///< with prefix length
  int mtu = 1400;
  bool up = true;  ///< false: somebody else brings the interface up
  size_t queues = 1;
  bool checksum_offload = true;  ///< the others need it
  bool tcp_offload = true;
  bool udp_offload = true;
};

class TunDevice {
 public:
  /// Creates the interface and, if asked to, brings it up. @throws std::system_error; EPERM means
  /// CAP_NET_ADMIN.
  explicit TunDevice(const TunSettings& settings);
  ~TunDevice();
  TunDevice(const TunDevice&) = delete;
  TunDevice& operator=(const TunDevice&) = delete;

  int queue(size_t index) const { return queues_[index]; }
  const std::string& name() const { return name_; }
  /// The MTU it was made with.
  size_t mtu() const { return mtu_; }
  bool checksum_offload() const { return checksum_offload_; }
  bool tcp_offload() const { return tcp_offload_; }
  bool udp_offload() const { return udp_offload_; }
  /// With prefix length.
  const std::vector<std::string>& addresses() const { return addresses_; }
  /// Gives the interface its addresses, and the routes to `unrouted` ones, in case it lost them. @returns the
  /// addresses it cannot have here, as put_address() has it. @throws std::system_error, also when it is in
  /// another network namespace
  std::vector<std::string> put_addresses(const std::vector<std::string>& unrouted = {}) const;
  /// Changes what the kernel may hand over from now on; super-packets under way are not taken back. Any
  /// thread. false: the kernel does not know one of them, and nothing changed.
  bool set_offloads(const inner::Offloads& offloads) const;

 private:
  std::shared_ptr<const Network> network_;
  std::string name_;
  std::vector<std::string> addresses_;
  std::vector<int> queues_;
  size_t mtu_;
  bool checksum_offload_ = false;
  bool tcp_offload_ = false;
  bool udp_offload_ = false;
};

}  // namespace omerta::tun
