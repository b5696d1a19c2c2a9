// SPDX-License-Identifier: Apache-2.0
// WireGuard messages of strangers: whatever arrives, there is no crash, no state, and never an answer
// larger than the message. The input is cut into messages, each led by a length byte; mac1 is made
// good for those of even length, because no fuzzer would find it and what lies behind it wants reaching.
#include <sodium.h>

#include <cstdlib>

#include "crypto/blake2s.h"
#include "session/session_table.h"

using namespace omerta;
using namespace omerta::session;

namespace {

class CountingOutput final : public SessionOutput {
 public:
  void send(const Endpoint&, Bytes message, uint8_t) override { bytes += message.size(); }
  void session_established(Peer&) override { std::abort(); }
  void endpoint_changed(Peer&) override { std::abort(); }
  void path_needed(Peer&) override {}
  void session_lost(Peer&) override {}
  size_t bytes = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool ready = sodium_init() >= 0;
  if (!ready) std::abort();
  static uint64_t random_state = 1;
  static SessionTable table(
      [] {
        Key32 key;
        key.fill(1);
        return key;
      }(),
      8, 1,
      {[](std::span<uint8_t> out) {
         for (uint8_t& byte : out)
           byte = static_cast<uint8_t>((random_state = random_state * 6364136223846793005u + 1) >> 33);
       },
       [] { return Timestamp{}; }});
  static Nanoseconds now = kSecond;
  CountingOutput out;
  while (size > 1) {
    const size_t length = std::min<size_t>(data[0], size - 1);
    std::vector<uint8_t> copy(data + 1, data + 1 + length);  // exact, so that over-reads are seen
    const uint8_t* message = copy.data();
    if (length >= 92 && (length & 1) == 0 && message[0] <= 2) {
      const Mac16 mac1 = crypto::blake2s_mac(table.local().mac1_key, {Bytes(message, length - 32)});
      std::memcpy(copy.data() + length - 32, mac1.data(), mac1.size());
    }
    data += 1 + length;
    size -= 1 + length;
    now += kMillisecond;
    Endpoint from;
    from.remote.port = 1;
    out.bytes = 0;
    const omerta_classification kind = omerta_classify(message, static_cast<__u32>(length));
    if (kind.verdict != OMERTA_WIREGUARD) continue;
    if (message[0] == 1) table.handle_initiation(load<Initiation>(message), from, now, out);
    if (message[0] == 2) table.handle_response(load<Response>(message), from, now, out);
    if (message[0] == 3) table.handle_cookie_reply(load<CookieReply>(message), now);
    if (message[0] == 4 && table.find(load<uint32_t>(message + 4)) != nullptr) std::abort();
    if (out.bytes > length) std::abort();
  }
  if (table.size() != 0) std::abort();
  return 0;
}
