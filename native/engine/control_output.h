// SPDX-License-Identifier: Apache-2.0
// How the control thread sends: a datagram at a time, by the first worker's socket.
#pragma once

#include <vector>

#include "engine/output.h"
#include "udp/udp_socket.h"

namespace omerta::engine {

/// What the session table asks for while the control thread is inside it.
class ControlOutput final : public EventOutput {
 public:
  using EventOutput::EventOutput;

  /// nullptr: nothing is sent.
  void use(udp::UdpSocket* socket) { socket_ = socket; }
  void send(const session::Endpoint& to, Bytes message, uint8_t traffic_class) override {
    send_datagram(to.remote, to.local, datagram_of(to, message), traffic_class);
  }
  void send_unfragmented(const session::Endpoint& to, Bytes message) override {
    if (socket_ == nullptr) return;
    const std::vector<uint8_t> datagram = datagram_of(to, message);
    count(socket_->send_unfragmented(to.remote, to.local, datagram.data(), datagram.size()), datagram.size());
  }
  void send_datagram(const omerta_address& to, const LocalAddress& local, Bytes datagram,
                     uint8_t traffic_class) {
    if (socket_ == nullptr) return;
    count(socket_->send_one(to, local, datagram.data(), datagram.size(), traffic_class), datagram.size());
  }

 private:
  std::vector<uint8_t> datagram_of(const session::Endpoint& to, Bytes message) {
    std::vector<uint8_t> datagram(message.begin(), message.end());
    if (to.relayed()) {
      datagram.insert(datagram.begin(), OMERTA_FRAME_HEADER_SIZE, 0);
      write_frame_header(datagram.data(), datagram.size(), to);
      count_sent(to, 1, datagram.size());
    }
    charge(to, datagram.size());
    return datagram;
  }
  /// error: with which the kernel refused it, or 0.
  void count(int error, size_t bytes) {
    udp::count_refused_datagram(error, counters_);
    counters_.add(Counter::tx_datagrams);
    counters_.add(Counter::tx_bytes, bytes);
  }

  udp::UdpSocket* socket_ = nullptr;
};

}  // namespace omerta::engine
