#include "coverage.h"

#include <algorithm>

namespace imageio::nbd {

const char* Coverage::Add(uint64_t offset, uint64_t size) {
  // Any 64 bits may come from the wire: no sum of them is made before they are known to be small.
  if (offset < start_ || offset > end_ || size > end_ - offset) {
    return "a chunk outside of the request";
  }
  const uint64_t end = offset + size;
  const auto after =
      std::upper_bound(parts_.begin(), parts_.end(), offset,
                       [](uint64_t at, const Part& part) { return at < part.start; });
  const auto before = after == parts_.begin() ? parts_.end() : after - 1;
  const bool has_before = before != parts_.end();
  const bool has_after = after != parts_.end();
  if ((has_before && before->end > offset) || (has_after && after->start < end)) {
    return "a chunk that overlaps";
  }
  const bool touches_before = has_before && before->end == offset;
  const bool touches_after = has_after && after->start == end;
  if (touches_before) {
    before->end = touches_after ? after->end : end;
    if (touches_after) parts_.erase(after);
  } else if (touches_after) {
    after->start = offset;
  } else {
    parts_.insert(after, {.start = offset, .end = end});
  }
  return nullptr;
}

bool Coverage::IsComplete() const {
  if (parts_.empty()) return start_ == end_;
  return parts_.size() == 1 && parts_.front().start == start_ && parts_.front().end == end_;
}

}  // namespace imageio::nbd
