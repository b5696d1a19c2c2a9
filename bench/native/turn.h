// SPDX-License-Identifier: Apache-2.0
// TURN (RFC 8656): just enough of a client to have a channel to each of the server's ports.
#pragma once

#include <poll.h>

#include <vector>

#include "traffic.h"

namespace omerta::bench {

constexpr int kNotServed = 3;  ///< exit code when the TURN server refuses or is silent
constexpr uint16_t kFirstChannel = 0x4000;

/// Sends a request and waits for its success response (class bits 01, section 5 of RFC 8489).
inline void turn_request(int fd, uint16_t type, const std::vector<uint8_t>& attributes) {
  std::vector<uint8_t> request(20 + attributes.size());
  const auto put16 = [&request](size_t at, size_t value) {
    request[at] = static_cast<uint8_t>(value >> 8);
    request[at + 1] = static_cast<uint8_t>(value);
  };
  put16(0, type);
  put16(2, attributes.size());
  const uint8_t cookie[4] = {0x21, 0x12, 0xA4, 0x42};
  std::memcpy(request.data() + 4, cookie, 4);
  const uint64_t transaction = now();
  std::memcpy(request.data() + 8, &transaction, 8);
  std::memcpy(request.data() + 20, attributes.data(), attributes.size());
  for (int attempt = 0; attempt < 4; attempt++) {
    if (send(fd, request.data(), request.size(), 0) < 0) fail("TURN request");
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, 500) != 1) continue;
    uint8_t response[1500];
    const ssize_t size = recv(fd, response, sizeof response, 0);
    if (size < 20 || std::memcmp(response + 8, request.data() + 8, 12) != 0) continue;
    if (response[0] == ((type | 0x0100) >> 8) && response[1] == (type & 0xff)) return;
    // ERROR-CODE is the first attribute of coturn's error responses.
    const int code = size >= 28 && response[21] == 0x09 ? response[26] * 100 + response[27] : 0;
    std::fprintf(stderr, "TURN request %04x was refused: error %d\n", type, code);
    std::exit(kNotServed);
  }
  std::fprintf(stderr, "TURN request %04x was not answered\n", type);
  std::exit(kNotServed);
}

inline void open_channels(int fd, const char* server_ip, uint32_t destinations) {
  turn_request(fd, 0x0003, {0x00, 0x19, 0, 4, IPPROTO_UDP, 0, 0, 0});  // Allocate: REQUESTED-TRANSPORT
  for (uint32_t d = 0; d < destinations; d++) {
    const sockaddr_in server = ipv4(server_ip, bench_server_port(d, destinations));
    const uint16_t port = static_cast<uint16_t>(ntohs(server.sin_port) ^ 0x2112);
    const uint32_t address = ntohl(server.sin_addr.s_addr) ^ 0x2112A442;
    const auto byte = [](uint32_t value, unsigned shift) { return static_cast<uint8_t>(value >> shift); };
    // ChannelBind: CHANNEL-NUMBER, XOR-PEER-ADDRESS
    turn_request(fd, 0x0009,
                 {0x00,
                  0x0c,
                  0,
                  4,
                  byte(kFirstChannel + d, 8),
                  byte(kFirstChannel + d, 0),
                  0,
                  0,
                  0x00,
                  0x12,
                  0,
                  8,
                  0,
                  1,
                  byte(port, 8),
                  byte(port, 0),
                  byte(address, 24),
                  byte(address, 16),
                  byte(address, 8),
                  byte(address, 0)});
  }
}

/// Refresh with lifetime 0. The client has flooded the server, so this may be lost: best effort.
inline void release_allocation(int fd) {
  const uint8_t request[28] = {0x00, 0x04, 0, 8, 0x21, 0x12, 0xA4, 0x42, 1,    1,    1, 1,
                               1,    1,    1, 1, 1,    1,    1,    1,    0x00, 0x0d, 0, 4};
  send(fd, request, sizeof request, 0);
}

}  // namespace omerta::bench
