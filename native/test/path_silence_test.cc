// SPDX-License-Identifier: Apache-2.0
// When a path is taken for silent (session/path_set.h), as test/golden/path-silence.json says for all
// engines.
#include <cstdio>
#include <memory>

#include "check.h"
#include "golden.h"
#include "session/path_set.h"

namespace {

using namespace omerta;
using namespace omerta::session;

Nanoseconds milliseconds(const golden::Json& json) { return json.get<Nanoseconds>() * kMillisecond; }

PathSettings settings_of(const golden::Json& times) {
  PathSettings settings;
  settings.timing = {.silent_after = milliseconds(times.at("silentAfterMs")),
                     .least_round_trip = milliseconds(times.at("leastRoundTripMs")),
                     .silent_between_reports = milliseconds(times.at("silentBetweenReportsMs")),
                     .report_every = milliseconds(times.at("reportEveryMs"))};
  for (uint8_t id = 1; id <= 2; id++) {
    PathEnds path;
    path.id = id;
    path.ends.receive_leg = id;
    settings.paths.push_back(path);
  }
  return settings;
}

void paths_fall_silent_as_golden_steps_say() {
  const golden::Json file = golden::read("test/golden/path-silence.json");
  CHECK(!file.empty());
  for (const golden::Json& sequence : file) {
    PathSettings settings = settings_of(sequence.at("times"));
    auto set = std::make_unique<PathSet>(settings, nullptr);
    for (const golden::Json& step : sequence.at("steps")) {
      const Nanoseconds now = milliseconds(step.at(0));
      const std::string does = step.at(1);
      if (does == "sends") {
        set->data_sent(now);
      } else if (does == "answered") {
        CHECK(!set->answered(*set->active(), now));
      } else {
        std::swap(settings.paths[0], settings.paths[1]);
        set = std::make_unique<PathSet>(settings, set.get());
      }
      const Nanoseconds expected = step.at(2).is_null() ? kNever : milliseconds(step.at(2));
      if (set->silent_at() != expected)
        std::printf("%s, at %s\n", sequence.at("name").get<std::string>().c_str(), step.dump().c_str());
      CHECK(set->silent_at() == expected);
    }
  }
}

void only_so_many_reports_within_a_round_trip_are_remembered() {
  PathSettings settings = settings_of({{"silentAfterMs", 2100},
                                       {"leastRoundTripMs", 2000},
                                       {"silentBetweenReportsMs", 50},
                                       {"reportEveryMs", 30}});
  const PathSet set(settings, nullptr);
  for (Nanoseconds at = 10'000; at < 13'000; at += 30) {
    set.data_sent(at * kMillisecond);
    set.answered(*set.active(), (at + 1) * kMillisecond);
  }
  // The last 32 of them, which is less than a round trip.
  CHECK(set.silent_at() == (12'970 - 31 * 30 + 2100) * kMillisecond);
}

}  // namespace

int main() {
  RUN(paths_fall_silent_as_golden_steps_say);
  RUN(only_so_many_reports_within_a_round_trip_are_remembered);
  return omerta::check::finish();
}
