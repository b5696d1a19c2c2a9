// SPDX-License-Identifier: Apache-2.0
// Inner packets: what a port hands over (segmentation) and what a peer sent (coalescing).
// Input: a virtio_net_hdr, then the packet. Segments that come out must be whole IP packets.
#include <cstdlib>
#include <vector>

#include "inner/coalescing.h"
#include "inner/icmp_error.h"
#include "inner/segmentation.h"

using namespace omerta;
using namespace omerta::inner;

namespace {

/// An inside that reads every byte it is sent, and keeps none.
class Nothing final : public Port {
 public:
  int descriptor() const override { return -1; }
  std::span<const Received> receive() override { return {}; }
  Taken send(std::span<const Gathered> packets) override {
    for (const Gathered& packet : packets)
      for (const iovec& part : packet)
        sum_ = checksum_payload(static_cast<const uint8_t*>(part.iov_base), part.iov_len);
    return {packets.size(), Stop::none};
  }
  void set_offloads(const Offloads&) override {}

 private:
  volatile uint64_t sum_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Nothing inside;
  static CounterRow counters;
  static Coalescing coalescing(inside, true, true);
  if (size < sizeof(VirtioNetHeader)) return 0;
  const auto header = load<VirtioNetHeader>(data);
  // Exact allocations, so that reading one byte too many is seen.
  std::vector<uint8_t> packet(data + sizeof header, data + size);
  Segmentation segments(header, packet.data(), packet.size());
  // Split shorter than it came, too: every length a path may take.
  const size_t limit = size % 3 == 0 ? 1 + size % 1500 : SIZE_MAX;
  if (segments.limit(limit) && segments.valid() && segments.size(0) > limit) std::abort();
  std::vector<std::vector<uint8_t>> pieces;
  for (size_t i = 0; i < segments.count(); i++) {
    std::vector<uint8_t> piece(segments.size(i));
    segments.write(i, piece.data());
    if (segments.count() > 1 && parse_ip(piece.data(), piece.size()).length != piece.size()) std::abort();
    pieces.push_back(std::move(piece));
  }
  for (auto& piece : pieces) {
    const IpView ip = parse_ip(piece.data(), piece.size());
    if (ip.family != 0) {
      const std::vector<uint8_t> answer = icmp_unreachable(ip, piece.data());
      if (answer.size() > 1280) std::abort();
      coalescing.add(piece.data(), ip, counters);
    }
  }
  coalescing.flush(counters);
  return 0;
}
