// SPDX-License-Identifier: Apache-2.0
// The forwarding table's verdict alone, ns of CPU per frame: what `npm run bench -- judge` prints.
//
//   judge --legs N [--run N] [--limits] [--several]
//   judge --legs N --memory     bytes a leg, of what the engine keeps for legs
//   judge --legs N --count NAME [--run N] [--limits] [--several]
//     instructions instead of time, for callgrind: of a verdict, and of installing a leg (counted.h)
//
// Frames come as the worker hands them over: batches of 1,024 in their buffers, 64 of one source in a
// row. --run N: so many in a row are of one leg (1: every frame another leg's). --limits: every limit
// there is, set so that it passes. --several: counting as several workers have to.
#include <getopt.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "counted.h"
#include "limited_legs.h"
#include "relay/forwarding_table.h"
#include "udp/return_addresses.h"

using namespace omerta;
using namespace omerta::bench;

namespace {

constexpr size_t kBatch = 1024;
constexpr size_t kChunk = 64;
constexpr size_t kSize = 64;
constexpr int kRounds = 7;

uint64_t cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

size_t resident_bytes() {
  size_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * 4096;
}

omerta_address source_of() {
  omerta_address a{};
  a.ip[10] = a.ip[11] = 0xff;
  a.ip[12] = 10;
  a.ip[15] = 1;
  a.port = 0x1234;
  return a;
}

omerta_leg leg_of(uint32_t i) {
  omerta_leg leg = charged_leg(i);
  const omerta_address source = source_of();
  std::memcpy(leg.source_ip, source.ip, 16);
  std::memcpy(leg.next_ip, source.ip, 16);
  leg.source_port = leg.next_port = source.port;
  return leg;
}

/// What each takes of resident memory when it is made, nothing being touched later.
int print_memory(size_t legs, size_t identities) {
  const relay::Accounts::Capacity least = {2, 2, 2};
  const size_t at_first = resident_bytes();
  const relay::Accounts of_a_table(least);
  const size_t with_them = resident_bytes();
  const relay::ForwardingTable table(legs, least, relay::ForwardingTable::Workers::one);
  const size_t with_table = resident_bytes();
  const relay::Accounts accounts({identities, 65, 2});
  const size_t with_accounts = resident_bytes();
  udp::ReturnAddresses addresses(legs, {1, 2});
  addresses.set_sole({.several = false});
  addresses.prepare();
  const size_t without_choice = resident_bytes();
  addresses.set_sole({.several = true});
  addresses.prepare();
  const size_t with_choice = resident_bytes();
  const auto per_leg = [legs](size_t before, size_t after) {
    return static_cast<double>(after - before) / static_cast<double>(legs);
  };
  std::printf("{\"table\":%.1f,\"accounts\":%.1f,\"oneAddress\":%.1f,\"severalAddresses\":%.1f}\n",
              per_leg(with_them, with_table) - per_leg(at_first, with_them),
              per_leg(with_table, with_accounts), per_leg(with_accounts, without_choice),
              per_leg(with_accounts, with_choice));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const option options[] = {
      {"legs", required_argument, nullptr, 'l'},    {"run", required_argument, nullptr, 'r'},
      {"limits", no_argument, nullptr, 'L'},        {"several", no_argument, nullptr, 's'},
      {"batches", required_argument, nullptr, 'b'}, {"memory", no_argument, nullptr, 'm'},
      {"count", required_argument, nullptr, 'c'},   {}};
  size_t legs = 1000, run = 1, batches = 1000;
  bool limited = false, several = false, memory = false;
  const char* count = nullptr;
  for (int option; (option = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    if (option == 'l') legs = std::strtoul(optarg, nullptr, 10);
    if (option == 'r') run = std::strtoul(optarg, nullptr, 10);
    if (option == 'b') batches = std::strtoul(optarg, nullptr, 10);
    limited |= option == 'L';
    several |= option == 's';
    memory |= option == 'm';
    if (option == 'c') count = optarg;
    if (option == '?') return 2;
  }
  const size_t identities = legs / kLegsOfIdentity + 2;
  if (memory) return print_memory(legs, identities);
  relay::ForwardingTable table(
      bench_slots(static_cast<uint32_t>(legs)), {identities, 65, 2},
      several ? relay::ForwardingTable::Workers::several : relay::ForwardingTable::Workers::one);
  if (limited) limit_all(table.accounts(), identities);
  std::vector<omerta_leg> entries;
  for (size_t i = 0; i < legs; i++) entries.push_back(leg_of(static_cast<uint32_t>(i)));
  if (count != nullptr) start_counting();
  for (const omerta_leg& leg : entries) table.install(leg);
  stop_counting();
  if (count != nullptr) report("install a leg", legs);

  const omerta_address source = source_of();
  std::vector<uint8_t> frames(kBatch * kSize);
  std::vector<relay::Datagram> datagrams;
  for (size_t i = 0; i < kBatch; i++) datagrams.push_back({&frames[i * kSize], kSize, &source});
  relay::Decision decisions[kChunk];
  std::vector<double> rounds;
  uint64_t forwarded = 0;
  uint32_t next = 0;
  uint64_t now = 1'000'000'000'000;
  for (int round = 0; round < kRounds; round++) {
    uint64_t spent = 0;
    for (size_t b = 0; b < batches; b++) {
      for (size_t i = 0; i < kBatch; i++) {
        uint8_t* frame = &frames[i * kSize];
        const uint32_t id = bench_leg_id(next);
        if (i % run == run - 1) next = (next + 1) % static_cast<uint32_t>(legs);
        std::memset(frame, 0, kSize);
        frame[0] = OMERTA_FRAME_MAGIC;
        frame[1] = OMERTA_KIND_FORWARD;
        frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
        frame[3] = kEpoch;
        omerta_store32(frame + 4, id);
        frame[OMERTA_FRAME_HEADER_SIZE] = 4;  // a transport message, whose counter is the sequence
        omerta_store64(frame + kSequenceAt, forwarded + i);
        __u64 key[2];
        bench_leg_key(id, key);
        omerta_store64(frame + 8, omerta_frame_tag(key, frame, kSize));
      }
      now += 1'000'000;
      const uint64_t start = cpu_ns();
      if (count != nullptr) start_counting();
      for (size_t i = 0; i < kBatch; i += kChunk) {
        table.judge_all(&datagrams[i], kChunk, now, decisions);
        for (const relay::Decision& decision : decisions) forwarded += decision.verdict == OMERTA_FORWARD;
      }
      stop_counting();
      spent += cpu_ns() - start;
    }
    if (count != nullptr) report((std::string("judge, ") + count).c_str(), batches * kBatch);
    rounds.push_back(static_cast<double>(spent) / static_cast<double>(batches * kBatch));
  }
  if (forwarded != kRounds * batches * kBatch) {
    std::fprintf(stderr, "judge: %llu frames were not forwarded\n",
                 static_cast<unsigned long long>(kRounds * batches * kBatch - forwarded));
    return 1;
  }
  std::sort(rounds.begin(), rounds.end());
  std::printf("{\"medianNs\":%.1f,\"leastNs\":%.1f}\n", rounds[kRounds / 2], rounds[0]);
  return 0;
}
