// SPDX-License-Identifier: Apache-2.0
// What a relay costs without a relay's work: plain UDP forwarders that look at four bytes to find the
// server's port and change nothing. No leg, no source check, no tag.
//
//   forwarder --mode single|batch|gather|coalesced --port N --server IP [--destinations N]
//     single     recvfrom, sendto
//     batch      recvmmsg of up to 64, sendmmsg of the same
//     gather     recvmmsg of up to 64, one GSO message per destination gathered from where they lie
//     coalesced  recvmsg of what GRO joined, sendmsg of the same as one GSO message: the kernel's own price.
//                Its segments have to be for one destination.
#include <getopt.h>

#include <string>
#include <vector>

#include "traffic.h"

using namespace omerta::bench;

namespace {

constexpr unsigned kBatch = 64;
constexpr size_t kSlot = 2048;

struct Route {
  int fd;
  const char* server;
  uint32_t destinations;
  std::vector<sockaddr_in> ports;

  sockaddr_in& of(const uint8_t* frame) { return ports[omerta_load32(frame + 4) & (destinations - 1)]; }
};

[[noreturn]] void forward_single(Route& route) {
  std::vector<uint8_t> buffer(65536);
  for (;;) {
    sockaddr_in from;
    socklen_t from_size = sizeof from;
    const ssize_t size =
        recvfrom(route.fd, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &from_size);
    if (size < static_cast<ssize_t>(kMinimumSize)) continue;
    sendto(route.fd, buffer.data(), static_cast<size_t>(size), 0,
           reinterpret_cast<sockaddr*>(&route.of(buffer.data())), sizeof(sockaddr_in));
  }
}

struct Batch {
  std::vector<uint8_t> memory = std::vector<uint8_t>(kBatch * kSlot);
  mmsghdr headers[kBatch]{};
  iovec vectors[kBatch]{};
  sockaddr_in from[kBatch]{};

  uint8_t* data(unsigned i) { return memory.data() + i * kSlot; }

  unsigned receive(int fd) {
    for (unsigned i = 0; i < kBatch; i++) {
      vectors[i] = {data(i), kSlot};
      headers[i].msg_hdr = {};
      headers[i].msg_hdr.msg_name = &from[i];
      headers[i].msg_hdr.msg_namelen = sizeof from[i];
      headers[i].msg_hdr.msg_iov = &vectors[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
    const int count = recvmmsg(fd, headers, kBatch, MSG_WAITFORONE, nullptr);
    return count < 0 ? 0 : static_cast<unsigned>(count);
  }
};

void send_all(int fd, mmsghdr* headers, unsigned count) {
  for (unsigned done = 0; done < count;) {
    const int sent = sendmmsg(fd, headers + done, count - done, 0);
    done += sent > 0 ? static_cast<unsigned>(sent) : 1;
  }
}

[[noreturn]] void forward_batch(Route& route) {
  Batch batch;
  for (;;) {
    const unsigned count = batch.receive(route.fd);
    for (unsigned i = 0; i < count; i++) {
      batch.vectors[i].iov_len = batch.headers[i].msg_len;
      batch.headers[i].msg_hdr.msg_name = &route.of(batch.data(i));
    }
    send_all(route.fd, batch.headers, count);
  }
}

[[noreturn]] void forward_gathered(Route& route) {
  Batch batch;
  struct Bin {
    unsigned count = 0;
    iovec vectors[kBatch];
    alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
  };
  std::vector<Bin> bins(route.destinations);
  std::vector<mmsghdr> out(route.destinations);
  for (;;) {
    const unsigned count = batch.receive(route.fd);
    for (unsigned i = 0; i < count; i++) {
      Bin& bin = bins[omerta_load32(batch.data(i) + 4) & (route.destinations - 1)];
      bin.vectors[bin.count++] = {batch.data(i), batch.headers[i].msg_len};
    }
    // The traffic of one round has one size; a forwarder for real would close a message when it changes.
    unsigned messages = 0;
    for (uint32_t d = 0; d < route.destinations; d++) {
      Bin& bin = bins[d];
      if (bin.count == 0) continue;
      msghdr& header = out[messages++].msg_hdr;
      header = {};
      header.msg_name = &route.ports[d];
      header.msg_namelen = sizeof(sockaddr_in);
      header.msg_iov = bin.vectors;
      header.msg_iovlen = bin.count;
      if (bin.count > 1) {
        header.msg_control = bin.control;
        header.msg_controllen =
            put_control(bin.control, IPPROTO_UDP, UDP_SEGMENT, static_cast<uint16_t>(bin.vectors[0].iov_len));
      }
      bin.count = 0;
    }
    send_all(route.fd, out.data(), messages);
  }
}

[[noreturn]] void forward_coalesced(Route& route) {
  const int on = 1;
  if (setsockopt(route.fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on) != 0) fail("UDP_GRO");
  std::vector<uint8_t> buffer(65536);
  for (;;) {
    iovec vector{buffer.data(), buffer.size()};
    alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
    sockaddr_in from;
    msghdr header{};
    header.msg_name = &from;
    header.msg_namelen = sizeof from;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t size = recvmsg(route.fd, &header, 0);
    if (size < static_cast<ssize_t>(kMinimumSize)) continue;
    int segment = 0;
    if (const cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr)
      std::memcpy(&segment, CMSG_DATA(c), sizeof segment);
    vector.iov_len = static_cast<size_t>(size);
    header.msg_name = &route.of(buffer.data());
    header.msg_controllen = segment == 0 || segment >= size ? 0
                                                            : put_control(control, IPPROTO_UDP, UDP_SEGMENT,
                                                                          static_cast<uint16_t>(segment));
    sendmsg(route.fd, &header, 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  static const option options[] = {{"mode", required_argument, nullptr, 'm'},
                                   {"port", required_argument, nullptr, 'p'},
                                   {"server", required_argument, nullptr, 's'},
                                   {"destinations", required_argument, nullptr, 'd'},
                                   {}};
  std::string mode = "single";
  uint16_t port = 0;
  Route route{-1, nullptr, 1, {}};
  for (int o; (o = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    if (o == 'm')
      mode = optarg;
    else if (o == 'p')
      port = static_cast<uint16_t>(std::atoi(optarg));
    else if (o == 's')
      route.server = optarg;
    else if (o == 'd')
      route.destinations = static_cast<uint32_t>(std::atoi(optarg));
    else
      return 2;
  }
  if (port == 0 || route.server == nullptr) {
    std::fputs("forwarder: --port and --server are needed\n", stderr);
    return 2;
  }
  for (uint32_t d = 0; d < route.destinations; d++)
    route.ports.push_back(ipv4(route.server, bench_server_port(d, route.destinations)));
  route.fd = udp_socket(port, kBufferBytes);
  std::puts("ready");
  std::fflush(stdout);
  if (mode == "batch") forward_batch(route);
  if (mode == "gather") forward_gathered(route);
  if (mode == "coalesced") forward_coalesced(route);
  forward_single(route);
}
