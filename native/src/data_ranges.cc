#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arguments.h"
#include "functions.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

struct Range {
  int64_t start;
  int64_t end;
};

class DataRangesWorker final : public SystemCallWorker {
 public:
  DataRangesWorker(Napi::Env env, int fd, Range asked, size_t limit)
      : SystemCallWorker(env, "imageio.dataRanges"),
        fd_(fd),
        end_(asked.end),
        limit_(limit),
        next_(asked.start) {}

 private:
  void Call() override {
    while (next_ < end_ && ranges_.size() < limit_) {
      if (!Step()) return;
    }
  }

  // Finds the next range of data; false when there is none or a call failed.
  bool Step() {
    const off_t start = Seek(SEEK_DATA, "lseek(SEEK_DATA)", next_);
    if (start == -1) return false;
    if (start >= end_) {
      next_ = end_;
      return false;
    }
    const off_t stop = Seek(SEEK_HOLE, "lseek(SEEK_HOLE)", start);
    if (stop == -1) return false;
    next_ = std::min<int64_t>(stop, end_);
    // Empty when someone punched a hole between the two calls.
    if (start < next_) ranges_.push_back({start, next_});
    return true;
  }

  // ENXIO: from here to the end of the file there is no data, or the file ends before.
  off_t Seek(int whence, const char* system_call, off_t from) {
    const off_t found = RetryInterrupted([&] { return lseek(fd_, from, whence); });
    if (found != -1) return found;
    if (errno == ENXIO) {
      next_ = end_;
    } else {
      Fail(system_call, errno);
    }
    return -1;
  }

  Napi::Value Result(Napi::Env env) override {
    Napi::Array ranges = Napi::Array::New(env, ranges_.size());
    uint32_t index = 0;
    for (const Range& range : ranges_) {
      const Napi::HandleScope scope(env);
      Napi::Object each = Napi::Object::New(env);
      each["start"] = static_cast<double>(range.start);
      each["end"] = static_cast<double>(range.end);
      ranges[index++] = each;
    }
    Napi::Object result = Napi::Object::New(env);
    result["ranges"] = ranges;
    result["next"] = static_cast<double>(next_);
    return result;
  }

  const int fd_;
  const int64_t end_;
  const size_t limit_;
  int64_t next_;
  std::vector<Range> ranges_;
};

}  // namespace

Napi::Value FindDataRanges(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  const Range asked{SizeArgument(info, 1, "start"), SizeArgument(info, 2, "end")};
  if (asked.start > asked.end) {
    throw Napi::RangeError::New(info.Env(), "end must not be before start");
  }
  const int64_t limit = SizeArgument(info, 3, "limit");
  // With none, a caller that goes on from `next` would never end.
  if (limit == 0) throw Napi::RangeError::New(info.Env(), "limit must not be 0");
  return Start<DataRangesWorker>(info, fd, asked, static_cast<size_t>(limit));
}

}  // namespace imageio
