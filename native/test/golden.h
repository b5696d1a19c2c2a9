// SPDX-License-Identifier: Apache-2.0
// Reads the golden packets (test/golden/README.md) into the types of omerta/wire.h.
#pragma once

#include <arpa/inet.h>
#include <omerta/limits.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace omerta::golden {

using Json = nlohmann::json;
using Bytes = std::vector<uint8_t>;

inline const char* const kFile = "test/golden/forwarding.json";
inline const char* const kLegHomes = "test/golden/leg-homes.json";

/// @throws std::runtime_error when the file cannot be opened (tests run from the root).
inline Json read(const std::string& path = kFile) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be opened; run from the repository's root");
  return Json::parse(file);
}

inline Bytes bytes_of(const std::string& hex, size_t zeros = 0) {
  Bytes bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  bytes.resize(bytes.size() + zeros);
  return bytes;
}

/// `1.2.3.4:5` or `[2001:db8::1]:5`, in canonical form.
inline omerta_address address_of(const std::string& text) {
  omerta_address address{};
  const size_t colon = text.rfind(':');
  const bool bracketed = text.front() == '[';
  const std::string host = bracketed ? text.substr(1, colon - 2) : text.substr(0, colon);
  address.port = htons(static_cast<uint16_t>(std::stoul(text.substr(colon + 1))));
  if (!bracketed) address.ip[10] = address.ip[11] = 0xff;
  void* into = bracketed ? address.ip : address.ip + 12;
  if (inet_pton(bracketed ? AF_INET6 : AF_INET, host.c_str(), into) != 1)
    throw std::runtime_error("golden: " + text + " is no socket address");
  return address;
}

inline omerta_leg leg_of(const Json& json) {
  omerta_leg leg{};
  const std::string action = json.at("action");
  leg.leg_id = json.at("id");
  leg.action = action == "forward"   ? OMERTA_LEG_FORWARD
               : action == "deliver" ? OMERTA_LEG_DELIVER
                                     : OMERTA_LEG_CONTROL;
  leg.key_epoch = json.at("epoch");
  std::memcpy(leg.key, bytes_of(json.at("key")).data(), 16);
  if (json.at("source").is_null()) {
    leg.flags = OMERTA_LEG_ANY_SOURCE;
  } else {
    const omerta_address source = address_of(json.at("source"));
    std::memcpy(leg.source_ip, source.ip, 16);
    leg.source_port = source.port;
  }
  if (const Json& next = json.at("next"); !next.is_null()) {
    const omerta_address address = address_of(next.at("address"));
    std::memcpy(leg.next_ip, address.ip, 16);
    leg.next_port = address.port;
    leg.next_leg_id = next.at("id");
    leg.next_key_epoch = next.at("epoch");
    std::memcpy(leg.next_key, bytes_of(next.at("key")).data(), 16);
  }
  leg.expires_at = std::stoull(json.at("expiresAt").get<std::string>());
  leg.identity = json.at("identity");
  leg.network = json.at("network");
  leg.limits = json.at("limits");
  return leg;
}

inline bool same(const omerta_address& a, const omerta_address& b) {
  return a.port == b.port && std::memcmp(a.ip, b.ip, 16) == 0;
}

/// Accounts and classes a table has when it runs the packets, and the key of its prefix buckets.
constexpr size_t kIdentities = 8, kNetworks = 8, kClasses = 8;
constexpr uint64_t kPrefixKey = 0x9e3779b97f4a7c15;

/// One change of limits. What it sets, by name: limits, identity, network, reset, host, prefix, fair.
struct Setting {
  std::string set;
  std::string kind;
  size_t index;
  omerta_rate rate;
  uint64_t byte_cap;
  unsigned ipv4_bits, ipv6_bits;
  uint32_t factor;
};

inline Setting setting_of(const Json& json) {
  Setting setting{};
  setting.set = json.at("set");
  setting.kind = json.value("kind", "");
  setting.index = json.value("index", size_t{0});
  setting.rate = {json.value("byteInterval", 0U), json.value("packetInterval", 0U), json.value("burst", 0U)};
  setting.byte_cap = std::stoull(json.value("byteCap", "0"));
  setting.ipv4_bits = json.value("ipv4Bits", 0U);
  setting.ipv6_bits = json.value("ipv6Bits", 0U);
  setting.factor = json.value("factor", 0U);
  return setting;
}

inline std::vector<Setting> settings_of(const Json& json) {
  std::vector<Setting> settings;
  for (const Json& each : json.value("settings", Json::array())) settings.push_back(setting_of(each));
  return settings;
}

/// One packet of a sequence, with what is expected of it.
struct Packet {
  std::string shows;
  std::vector<Setting> settings;
  std::vector<uint32_t> remove;
  std::vector<omerta_leg> install;
  uint64_t now;
  omerta_address from;
  Bytes datagram;
  omerta_verdict verdict;
  omerta_drop_reason reason;
  uint32_t leg;
  omerta_address to;
  Bytes out;
};

inline int number_of(const std::string& name, std::initializer_list<const char*> names) {
  int number = 0;
  for (const char* each : names) {
    if (name == each) return number;
    number++;
  }
  throw std::runtime_error("golden: unknown name " + name);
}

inline Packet packet_of(const Json& json) {
  Packet packet{};
  const size_t zeros = json.value("zeros", size_t{0});
  packet.shows = json.at("shows");
  packet.settings = settings_of(json);
  packet.remove = json.value("remove", std::vector<uint32_t>{});
  for (const Json& leg : json.value("install", Json::array())) packet.install.push_back(leg_of(leg));
  packet.now = std::stoull(json.at("now").get<std::string>());
  packet.from = address_of(json.at("from"));
  packet.datagram = bytes_of(json.at("hex"), zeros);
  packet.verdict = static_cast<omerta_verdict>(
      number_of(json.at("verdict"), {"drop", "wireguard", "stun", "control", "deliver", "forward"}));
  packet.reason =
      static_cast<omerta_drop_reason>(number_of(json.at("reason"), {
#define OMERTA_X(upper, lower) #lower,
                                                                       OMERTA_DROP_REASONS(OMERTA_X)
#undef OMERTA_X
                                                                   }));
  packet.leg = json.value("leg", 0U);
  if (json.contains("to")) packet.to = address_of(json.at("to"));
  packet.out = json.contains("out") ? bytes_of(json.at("out"), zeros) : packet.datagram;
  return packet;
}

}  // namespace omerta::golden
