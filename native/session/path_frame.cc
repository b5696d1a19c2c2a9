// SPDX-License-Identifier: Apache-2.0
#include "session/path_frame.h"

#include <algorithm>

#include "session/messages.h"

namespace omerta::session {
namespace {

constexpr size_t kStampAt = 12;
/// Zero in a probe; in an answer where it came from and how large it was, then zero.
constexpr size_t kObservedAt = 20;
constexpr size_t kObservedPortAt = 36;
constexpr size_t kSizeAt = 38;
constexpr size_t kZeroAt = 40;

}  // namespace

size_t probe_payload_size(size_t size, size_t framing) {
  const size_t around = framing + kTransportOverhead;
  return std::clamp(size <= around ? 0 : size - around, kProbeSize, kMaxProbeSize);
}

void write_probe(std::span<uint8_t> payload, const ProbeToken& token, uint64_t stamp) {
  std::ranges::fill(payload, uint8_t{0});
  write_control_header(payload.data(), ControlKind::probe, payload.size() - kControlHeaderSize);
  store(payload.data() + kControlHeaderSize, token);
  store(payload.data() + kStampAt, stamp);
}

ProbeFrame encode_probe_answer(const PathFrame& probe, const omerta_address& observed, uint16_t size) {
  ProbeFrame frame{};
  write_control_header(frame.data(), ControlKind::probe_answer, frame.size() - kControlHeaderSize);
  store(frame.data() + kControlHeaderSize, probe.token);
  store(frame.data() + kStampAt, probe.stamp);
  if (observed.port != 0) {
    std::memcpy(frame.data() + kObservedAt, observed.ip, sizeof observed.ip);
    store(frame.data() + kObservedPortAt, __builtin_bswap16(observed.port));
  }
  store(frame.data() + kSizeAt, size);
  return frame;
}

ReportFrame encode_path_report(uint64_t received) {
  ReportFrame frame{};
  write_control_header(frame.data(), ControlKind::path_report, frame.size() - kControlHeaderSize);
  store(frame.data() + kControlHeaderSize, received);
  return frame;
}

std::optional<PathFrame> decode_path_frame(Bytes payload) {
  if (payload.size() < kReportSize || !is_path_frame(payload) ||
      load<uint16_t>(payload.data() + 2) != payload.size() - kControlHeaderSize)
    return std::nullopt;
  PathFrame frame{.kind = static_cast<ControlKind>(payload[1])};
  if (frame.kind == ControlKind::path_report) {
    if (payload.size() != kReportSize || !all_zero(payload.subspan(12))) return std::nullopt;
    frame.received = load<uint64_t>(payload.data() + kControlHeaderSize);
    return frame;
  }
  if (payload.size() < kProbeSize) return std::nullopt;
  frame.token = load<ProbeToken>(payload.data() + kControlHeaderSize);
  frame.stamp = load<uint64_t>(payload.data() + kStampAt);
  if (frame.kind == ControlKind::probe) {
    // What makes a probe larger than its answer is not looked at.
    if (!all_zero(payload.subspan(kObservedAt, kProbeSize - kObservedAt))) return std::nullopt;
    return frame;
  }
  if (payload.size() != kProbeSize || !all_zero(payload.subspan(kZeroAt))) return std::nullopt;
  std::memcpy(frame.observed.ip, payload.data() + kObservedAt, sizeof frame.observed.ip);
  frame.observed.port = __builtin_bswap16(load<uint16_t>(payload.data() + kObservedPortAt));
  if (frame.observed.port == 0 && !all_zero(payload.subspan(kObservedAt, sizeof frame.observed.ip)))
    return std::nullopt;
  frame.size = load<uint16_t>(payload.data() + kSizeAt);
  return frame;
}

}  // namespace omerta::session
