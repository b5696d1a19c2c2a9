// SPDX-License-Identifier: Apache-2.0
// Path frames (docs/protocol.md, "Paths"): what engines say to each other inside a session about the ways
// between them. Like suite frames they are the engines' own, told from other payloads by their first bytes.
//
//   probe    C0 06 | length u16 | token 8 | stamp u64 | zero 28 | padding
//   answer   C0 07 | 2C 00 | token 8 | stamp u64 | observed ip 16 | observed port u16 | size u16 | zero 8
//   report   C0 08 | 0C 00 | received u64 | zero 4
//
// Pure functions over explicit values.
#pragma once

#include <omerta/wire.h>

#include <array>
#include <optional>

#include "session/control_frame.h"

namespace omerta::session {

inline constexpr size_t kProbeSize = 48;
inline constexpr size_t kReportSize = 16;
/// The greatest payload whose length the header can say.
inline constexpr size_t kMaxProbeSize = 65'504;

using ProbeToken = std::array<uint8_t, 8>;
/// A probe without padding, or an answer.
using ProbeFrame = std::array<uint8_t, kProbeSize>;
using ReportFrame = std::array<uint8_t, kReportSize>;

struct PathFrame {
  ControlKind kind;           ///< probe, probe_answer or path_report
  ProbeToken token{};         ///< of a probe or answer
  uint64_t stamp = 0;         ///< likewise: the prober's clock, which nobody else reads
  omerta_address observed{};  ///< of an answer: where the probe came from; port 0: by a leg
  uint16_t size = 0;          ///< of an answer: UDP payload of the datagram that brought the probe
  uint64_t received = 0;      ///< of a report: transport messages received by the path it goes by
};

/// Whether a transport payload is a path frame, well-formed or not.
inline bool is_path_frame(Bytes payload) {
  return is_control_frame(payload, ControlKind::probe, ControlKind::path_report);
}

/// Bytes of payload a probe has whose datagram is to have `size` bytes, `framing` of them an Omerta header.
size_t probe_payload_size(size_t size, size_t framing);

/// Writes a probe that fills `payload`: kProbeSize at least, kMaxProbeSize at most.
void write_probe(std::span<uint8_t> payload, const ProbeToken& token, uint64_t stamp);
/// The answer to a probe; never larger than it. `observed`: port 0, it came by a leg.
ProbeFrame encode_probe_answer(const PathFrame& probe, const omerta_address& observed, uint16_t size);
ReportFrame encode_path_report(uint64_t received);

/// nullopt: malformed, or not a path frame.
std::optional<PathFrame> decode_path_frame(Bytes payload);

}  // namespace omerta::session
