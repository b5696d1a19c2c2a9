// SPDX-License-Identifier: Apache-2.0
#include "xdp/interface_facts.h"

#include <bpf/libbpf.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

#include "xdp/file_descriptor.h"

namespace omerta::xdp {
namespace {

/// ioctl on an interface; false when the kernel or the driver does not know it.
bool ask(const std::string& name, unsigned long request, ifreq& arguments) {
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::memcpy(arguments.ifr_name, name.c_str(), std::min<size_t>(name.size(), IFNAMSIZ - 1));
  return socket && ioctl(socket.get(), request, &arguments) == 0;
}

template <class Command>
bool ask_ethtool(const std::string& name, Command& command) {
  ifreq arguments{};
  arguments.ifr_data = reinterpret_cast<char*>(&command);
  return ask(name, SIOCETHTOOL, arguments);
}

// ---- generic netlink, as far as one question needs it -----------------------------------------

constexpr uint8_t kNetdevDeviceGet = 1;     // linux/netdev.h: NETDEV_CMD_DEV_GET
constexpr uint16_t kNetdevInterface = 1;    // NETDEV_A_DEV_IFINDEX
constexpr uint16_t kNetdevXdpFeatures = 3;  // NETDEV_A_DEV_XDP_FEATURES

/// Sends a command with one attribute and looks for one attribute of the answer.
template <class Value>
std::optional<Value> ask_netlink(uint16_t family, uint8_t command, uint16_t attribute, const void* given,
                                 size_t given_size, uint16_t wanted) {
  const FileDescriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
  if (!socket) return std::nullopt;
  alignas(NLMSG_ALIGNTO) std::array<uint8_t, 8192> buffer{};
  auto* message = reinterpret_cast<nlmsghdr*>(buffer.data());
  message->nlmsg_type = family;
  message->nlmsg_flags = NLM_F_REQUEST;
  auto* generic = static_cast<genlmsghdr*>(NLMSG_DATA(message));
  generic->cmd = command;
  generic->version = 1;
  auto* first = reinterpret_cast<nlattr*>(buffer.data() + NLMSG_LENGTH(GENL_HDRLEN));
  first->nla_type = attribute;
  first->nla_len = static_cast<uint16_t>(NLA_HDRLEN + given_size);
  std::memcpy(first + 1, given, given_size);
  message->nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(GENL_HDRLEN) + NLA_ALIGN(first->nla_len));
  if (send(socket.get(), buffer.data(), message->nlmsg_len, 0) < 0) return std::nullopt;
  const ssize_t size = recv(socket.get(), buffer.data(), buffer.size(), 0);
  if (size < static_cast<ssize_t>(NLMSG_LENGTH(GENL_HDRLEN)) || message->nlmsg_type == NLMSG_ERROR ||
      message->nlmsg_len > static_cast<size_t>(size))
    return std::nullopt;
  for (size_t at = NLMSG_LENGTH(GENL_HDRLEN); at + NLA_HDRLEN <= message->nlmsg_len;) {
    const auto* found = reinterpret_cast<const nlattr*>(buffer.data() + at);
    if (found->nla_len < NLA_HDRLEN || at + found->nla_len > message->nlmsg_len) break;
    if ((found->nla_type & NLA_TYPE_MASK) == wanted && found->nla_len >= NLA_HDRLEN + sizeof(Value)) {
      Value value;
      std::memcpy(&value, found + 1, sizeof value);
      return value;
    }
    at += NLA_ALIGN(found->nla_len);
  }
  return std::nullopt;
}

std::optional<uint64_t> xdp_features(uint32_t interface) {
  static const char kFamily[] = "netdev";
  const auto family = ask_netlink<uint16_t>(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, kFamily,
                                            sizeof kFamily, CTRL_ATTR_FAMILY_ID);
  if (!family.has_value()) return std::nullopt;
  return ask_netlink<uint64_t>(*family, kNetdevDeviceGet, kNetdevInterface, &interface, sizeof interface,
                               kNetdevXdpFeatures);
}

}  // namespace

std::optional<InterfaceFacts> interface_facts(const std::string& name) {
  InterfaceFacts facts;
  facts.name = name;
  facts.index = if_nametoindex(name.c_str());
  if (facts.index == 0) return std::nullopt;
  ifreq arguments{};
  if (ask(name, SIOCGIFMTU, arguments)) facts.mtu = static_cast<uint32_t>(arguments.ifr_mtu);
  arguments = {};
  if (ask(name, SIOCGIFFLAGS, arguments)) {
    const auto flags = static_cast<unsigned>(static_cast<unsigned short>(arguments.ifr_flags));
    facts.up = (flags & IFF_UP) != 0;
    facts.ethernet = (flags & (IFF_LOOPBACK | IFF_POINTOPOINT)) == 0;
  }
  arguments = {};
  facts.ethernet =
      facts.ethernet && ask(name, SIOCGIFHWADDR, arguments) && arguments.ifr_hwaddr.sa_family == ARPHRD_ETHER;
  ethtool_drvinfo driver{};
  driver.cmd = ETHTOOL_GDRVINFO;
  if (ask_ethtool(name, driver)) facts.driver = driver.driver;
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (ask_ethtool(name, channels)) {
    facts.receive_queues = channels.rx_count + channels.combined_count;
    facts.transmit_queues = channels.tx_count + channels.combined_count;
  }
  ethtool_ringparam rings{};
  rings.cmd = ETHTOOL_GRINGPARAM;
  if (ask_ethtool(name, rings)) {
    facts.receive_ring = rings.rx_pending;
    facts.transmit_ring = rings.tx_pending;
  }
  LIBBPF_OPTS(bpf_xdp_query_opts, attached);
  if (bpf_xdp_query(static_cast<int>(facts.index), 0, &attached) == 0) {
    facts.program_id = attached.prog_id != 0       ? attached.prog_id
                       : attached.drv_prog_id != 0 ? attached.drv_prog_id
                                                   : attached.skb_prog_id;
    facts.generic = attached.attach_mode == XDP_ATTACHED_SKB;
  }
  facts.xdp_features = xdp_features(facts.index);
  return facts;
}

std::vector<std::string> interface_names() {
  std::vector<std::string> names;
  struct if_nameindex* list = if_nameindex();
  for (struct if_nameindex* at = list; at != nullptr && at->if_index != 0; at++)
    names.emplace_back(at->if_name);
  if_freenameindex(list);
  return names;
}

std::optional<TransmitCounts> transmit_counts(const std::string& name) {
  ethtool_drvinfo driver{};
  driver.cmd = ETHTOOL_GDRVINFO;
  if (!ask_ethtool(name, driver) || driver.n_stats == 0 || driver.n_stats > 65536) return std::nullopt;
  const size_t count = driver.n_stats;
  std::vector<uint64_t> text((sizeof(ethtool_gstrings) + count * ETH_GSTRING_LEN) / 8 + 1);
  auto* strings = reinterpret_cast<ethtool_gstrings*>(text.data());
  strings->cmd = ETHTOOL_GSTRINGS;
  strings->string_set = ETH_SS_STATS;
  strings->len = driver.n_stats;
  std::vector<uint64_t> numbers(sizeof(ethtool_stats) / 8 + 1 + count);
  auto* stats = reinterpret_cast<ethtool_stats*>(numbers.data());
  stats->cmd = ETHTOOL_GSTATS;
  stats->n_stats = driver.n_stats;
  if (!ask_ethtool(name, *strings) || !ask_ethtool(name, *stats)) return std::nullopt;
  std::optional<TransmitCounts> total;
  for (size_t i = 0; i < std::min<size_t>(strings->len, stats->n_stats); i++) {
    const char* at = reinterpret_cast<const char*>(strings->data) + i * ETH_GSTRING_LEN;
    const std::string counter(at, strnlen(at, ETH_GSTRING_LEN));
    // Named by each driver in its own way: xdp_tx_errors, xdp_xmit_err, xdp_tx_full, xdp_tx_drops.
    const auto has = [&counter](const char* word) { return counter.find(word) != std::string::npos; };
    if (!has("xdp_tx") && !has("xdp_xmit")) continue;
    if (!total.has_value()) total.emplace();
    if (has("err") || has("full") || has("drop"))
      total->errors += stats->data[i];
    else if (counter.ends_with("xdp_tx"))
      total->taken += stats->data[i];
  }
  return total;
}

std::optional<uint32_t> packets_sent(const std::string& name) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return std::nullopt;
  std::optional<uint32_t> sent;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next)
    if (at->ifa_addr != nullptr && at->ifa_addr->sa_family == AF_PACKET && at->ifa_data != nullptr &&
        name == at->ifa_name)
      sent = static_cast<const rtnl_link_stats*>(at->ifa_data)->tx_packets;
  freeifaddrs(list);
  return sent;
}

}  // namespace omerta::xdp
