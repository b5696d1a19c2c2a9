// SPDX-License-Identifier: Apache-2.0
#include "tun/tun_device.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/ipv6_route.h>
#include <linux/route.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "common/step_failed.h"
#include "tun/interface_address.h"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

namespace omerta::tun {
namespace {

[[noreturn]] void fail(const char* step, const std::string& subject) {
  throw StepFailed(errno, step, subject);
}

class ControlSocket {
 public:
  ControlSocket(const Network& network, int family) : fd_(network.open_socket(family, SOCK_DGRAM, 0)) {
    if (fd_ < 0) fail("tun-flags", "socket");
  }
  ~ControlSocket() { close(fd_); }
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  void request(unsigned long code, void* argument, const char* step, const std::string& interface) const {
    if (ioctl(fd_, code, argument) != 0) fail(step, interface);
  }

 private:
  int fd_;
};

ifreq request_for(const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.c_str(), std::min<size_t>(name.size(), IFNAMSIZ - 1));
  return request;
}

/// As the kernel's WireGuard has it: no link-local address but one that somebody gives it, and nobody asks
/// for routers. Where /proc/sys may not be written it gets one.
void without_link_local_address(const std::string& name) {
  const int fd = open(("/proc/sys/net/ipv6/conf/" + name + "/addr_gen_mode").c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  constexpr char kNone = '1';
  [[maybe_unused]] const ssize_t written = ::write(fd, &kNone, 1);
  close(fd);
}

/// Everything without another way goes by the interface; IPv6 where the namespace has it.
void lead_everywhere(const Network& network, const std::string& name) {
  std::string device = name;
  rtentry ipv4{};
  for (sockaddr* each : {&ipv4.rt_dst, &ipv4.rt_genmask, &ipv4.rt_gateway}) each->sa_family = AF_INET;
  ipv4.rt_flags = RTF_UP;
  ipv4.rt_dev = device.data();
  ControlSocket(network, AF_INET).request(SIOCADDRT, &ipv4, "tun-route", name);
  const int fd = network.open_socket(AF_INET6, SOCK_DGRAM, 0);
  if (fd < 0) return;
  ifreq index = request_for(name);
  in6_rtmsg ipv6{};
  ipv6.rtmsg_flags = RTF_UP;
  ipv6.rtmsg_metric = 1024;
  if (ioctl(fd, SIOCGIFINDEX, &index) == 0) {
    ipv6.rtmsg_ifindex = index.ifr_ifindex;
    ioctl(fd, SIOCADDRT, &ipv6);
  }
  close(fd);
}

}  // namespace

TunDevice::TunDevice(const TunSettings& settings)
    : network_(settings.network ? settings.network : std::make_shared<Network>()),
      name_(settings.name),
      addresses_(settings.addresses),
      mtu_(static_cast<size_t>(settings.mtu)) {
  try {
    for (size_t i = 0; i < settings.queues; i++) {
      const int fd = network_->open_tun();
      if (fd < 0) fail("tun-device", "/dev/net/tun");
      queues_.push_back(fd);
      ifreq request = request_for(settings.name);
      request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
      if (settings.queues > 1) request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_MULTI_QUEUE);
      // Without it the first queue would join an interface that somebody else has open.
      if (i == 0) request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_TUN_EXCL);
      if (ioctl(fd, TUNSETIFF, &request) != 0) fail("tun-create", settings.name);
      name_ = request.ifr_name;
      checksum_offload_ = settings.checksum_offload;
      tcp_offload_ = checksum_offload_ && settings.tcp_offload;
      udp_offload_ =
          checksum_offload_ && settings.udp_offload && set_offloads({checksum_offload_, tcp_offload_, true});
      if (!udp_offload_ && !set_offloads({checksum_offload_, tcp_offload_, false}))
        fail("tun-offloads", settings.name);
    }
    if (!settings.network) without_link_local_address(name_);
    const ControlSocket control(*network_, AF_INET);
    ifreq request = request_for(name_);
    request.ifr_mtu = settings.mtu;
    control.request(SIOCSIFMTU, &request, "tun-mtu", name_);
    if (settings.up) {
      request = request_for(name_);
      control.request(SIOCGIFFLAGS, &request, "tun-flags", name_);
      request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
      control.request(SIOCSIFFLAGS, &request, "tun-up", name_);
    }
    if (!addresses_.empty() && put_addresses().size() == addresses_.size()) {
      errno = EADDRNOTAVAIL;
      fail("tun-addresses", name_);
    }
    if (settings.network) lead_everywhere(*network_, name_);
  } catch (...) {
    for (const int fd : queues_) close(fd);
    throw;
  }
}

std::vector<std::string> TunDevice::put_addresses(const std::vector<std::string>& unrouted) const {
  ifreq request{};
  if (ioctl(queues_.front(), TUNGETIFF, &request) != 0) fail("tun-name", name_);
  std::vector<std::string> refused;
  for (const std::string& address : addresses_)
    if (!put_address(*network_, request.ifr_name, address)) refused.push_back(address);
  for (const std::string& address : unrouted) put_route(*network_, request.ifr_name, address);
  return refused;
}

bool TunDevice::set_offloads(const inner::Offloads& offloads) const {
  const unsigned flags = (offloads.checksum ? TUN_F_CSUM : 0u) |
                         (offloads.tcp ? TUN_F_TSO4 | TUN_F_TSO6 : 0u) |
                         (offloads.udp ? TUN_F_USO4 | TUN_F_USO6 : 0u);
  // A property of the interface: any queue will do.
  return ioctl(queues_.back(), TUNSETOFFLOAD, flags) == 0;
}

TunDevice::~TunDevice() {
  for (const int fd : queues_) close(fd);
}

}  // namespace omerta::tun
