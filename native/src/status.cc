#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdint>
#include <cstring>

#include "arguments.h"
#include "functions.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

// STATX_DIOALIGN and its two fields came with Linux 6.1; older headers have the bytes as spare.
constexpr unsigned kDirectAlignments = 0x2000;
constexpr size_t kDirectMemoryAlignAt = 0x98;
constexpr size_t kDirectOffsetAlignAt = 0x9c;
static_assert(sizeof(struct statx) == 0x100);

uint32_t FieldAt(const struct statx& found, size_t at) {
  uint32_t field = 0;
  std::memcpy(&field, reinterpret_cast<const char*>(&found) + at, sizeof(field));
  return field;
}

const char* TypeOf(unsigned mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFBLK:
      return "block-device";
    case S_IFDIR:
      return "directory";
    case S_IFCHR:
      return "character-device";
    case S_IFIFO:
      return "fifo";
    case S_IFSOCK:
      return "socket";
    default:
      return "other";
  }
}

// The number that stat(2) and Node's fs.stat() tell for a device.
double DeviceNumber(unsigned major, unsigned minor) {
  return static_cast<double>(makedev(major, minor));
}

// Some file systems keep times beyond the year 2262, where 64 bits of nanoseconds end.
Napi::Value Nanoseconds(Napi::Env env, const struct statx_timestamp& time) {
  const __int128 total = static_cast<__int128>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
  const bool negative = total < 0;
  const auto magnitude = static_cast<unsigned __int128>(negative ? -total : total);
  const uint64_t words[] = {static_cast<uint64_t>(magnitude),
                            static_cast<uint64_t>(magnitude >> 64)};
  return Napi::BigInt::New(env, negative ? 1 : 0, 2, words);
}

class StatusWorker final : public SystemCallWorker {
 public:
  StatusWorker(Napi::Env env, int fd) : SystemCallWorker(env, "imageio.status"), fd_(fd) {}

 private:
  void Call() override {
    const unsigned mask = STATX_BASIC_STATS | kDirectAlignments;
    const int result = Try(
        "statx", [&] { return statx(fd_, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, mask, &found_); });
    if (result == -1) return;
    // A size that a JavaScript number would round must not pass for the real one.
    if (found_.stx_size > kMaxSafeInteger || found_.stx_blocks > kMaxSafeInteger / kBlockSize) {
      Fail("statx", EOVERFLOW);
    }
  }

  Napi::Value Result(Napi::Env env) override {
    Napi::Object status = Napi::Object::New(env);
    status["type"] = Napi::String::New(env, TypeOf(found_.stx_mode));
    status["device"] = DeviceNumber(found_.stx_dev_major, found_.stx_dev_minor);
    status["rdev"] = DeviceNumber(found_.stx_rdev_major, found_.stx_rdev_minor);
    status["inode"] = Napi::BigInt::New(env, uint64_t{found_.stx_ino});
    status["size"] = static_cast<double>(found_.stx_size);
    status["allocated"] = static_cast<double>(found_.stx_blocks * kBlockSize);
    status["mtimeNs"] = Nanoseconds(env, found_.stx_mtime);
    status["ctimeNs"] = Nanoseconds(env, found_.stx_ctime);
    if ((found_.stx_mask & kDirectAlignments) != 0) {
      status["directMemoryAlign"] = FieldAt(found_, kDirectMemoryAlignAt);
      status["directOffsetAlign"] = FieldAt(found_, kDirectOffsetAlignAt);
    }
    return status;
  }

  // stx_blocks counts in this unit, whatever the file system's.
  static constexpr uint64_t kBlockSize = 512;

  const int fd_;
  struct statx found_ {};
};

}  // namespace

Napi::Value Status(const Napi::CallbackInfo& info) {
  return Start<StatusWorker>(info, DescriptorArgument(info, 0));
}

}  // namespace imageio
