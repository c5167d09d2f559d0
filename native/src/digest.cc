#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "arguments.h"
#include "functions.h"
#include "read_fully.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

struct Algorithm {
  const char* name;
  const char* openssl_name;
  // Bytes to ask for where OpenSSL gives more by default, else 0.
  size_t size;
};

// The names are those of Python's hashlib, in their order.
constexpr Algorithm kAlgorithms[] = {
    // 32 is a parameter of the function itself: the first 32 bytes of 64 are something else.
    {"blake2b", "BLAKE2B-512", 32},
    {"blake2s", "BLAKE2S-256", 0},
    {"md5", "MD5", 0},
    {"sha1", "SHA1", 0},
    {"sha224", "SHA2-224", 0},
    {"sha256", "SHA2-256", 0},
    {"sha384", "SHA2-384", 0},
    {"sha3_224", "SHA3-224", 0},
    {"sha3_256", "SHA3-256", 0},
    {"sha3_384", "SHA3-384", 0},
    {"sha3_512", "SHA3-512", 0},
    {"sha512", "SHA2-512", 0},
};

struct FreeMethod {
  void operator()(EVP_MD* method) const { EVP_MD_free(method); }
};

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

void Check(int result, const char* call) {
  if (result != 1) throw std::runtime_error(std::string(call) + " failed");
}

// A digest under way, by the OpenSSL inside Node. One thread at a time.
class Digest {
 public:
  explicit Digest(const Algorithm& algorithm)
      : method_(EVP_MD_fetch(nullptr, algorithm.openssl_name, nullptr)),
        context_(EVP_MD_CTX_new()) {
    if (method_ == nullptr || context_ == nullptr) {
      throw std::runtime_error(std::string("this Node has no ") + algorithm.openssl_name);
    }
    size_t size = algorithm.size;
    const OSSL_PARAM sized[] = {OSSL_PARAM_construct_size_t(OSSL_DIGEST_PARAM_SIZE, &size),
                                OSSL_PARAM_construct_end()};
    Check(EVP_DigestInit_ex2(context_.get(), method_.get(), size == 0 ? nullptr : sized),
          "EVP_DigestInit_ex2");
  }

  void Update(const uint8_t* data, size_t size) {
    Check(EVP_DigestUpdate(context_.get(), data, size), "EVP_DigestUpdate");
  }

  Napi::Value Finish(Napi::Env env) {
    uint8_t bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    Check(EVP_DigestFinal_ex(context_.get(), bytes, &size), "EVP_DigestFinal_ex");
    is_finished = true;
    return ByteBuffer::Copy(env, bytes, size);
  }

  // Looked at on the JavaScript thread only.
  bool is_busy = false;
  bool is_finished = false;

 private:
  const std::unique_ptr<EVP_MD, FreeMethod> method_;
  const std::unique_ptr<EVP_MD_CTX, FreeContext> context_;
};

// What JavaScript holds; a worker has its share, so that garbage collection does not end it.
using SharedDigest = std::shared_ptr<Digest>;

constexpr napi_type_tag kDigestTag = {0x6a1d3c0b9be54f21, 0x9f0d5b7c1e8a4d36};

// A digest that may be used now.
SharedDigest DigestArgument(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Value value = info[index];
  if (!value.IsExternal() || !value.As<Napi::External<SharedDigest>>().CheckTypeTag(&kDigestTag)) {
    throw Napi::TypeError::New(info.Env(), "digest must be of createDigest");
  }
  SharedDigest digest = *value.As<Napi::External<SharedDigest>>().Data();
  if (digest->is_busy) throw Napi::Error::New(info.Env(), "the digest is being updated");
  if (digest->is_finished) throw Napi::Error::New(info.Env(), "the digest is finished");
  return digest;
}

class UpdateDigestWorker final : public SystemCallWorker {
 public:
  UpdateDigestWorker(Napi::Env env, SharedDigest digest, const ByteBuffer& buffer)
      : SystemCallWorker(env, "imageio.updateDigest"),
        digest_(std::move(digest)),
        data_(buffer.Data()),
        size_(buffer.Length()),
        buffer_(Napi::Persistent(buffer)) {
    digest_->is_busy = true;
  }

  // On the JavaScript thread, before anybody who waits for the promise goes on.
  ~UpdateDigestWorker() override { digest_->is_busy = false; }

 private:
  void Call() override { digest_->Update(data_, size_); }

  const SharedDigest digest_;
  const uint8_t* const data_;
  const size_t size_;
  const Napi::Reference<ByteBuffer> buffer_;
};

// Reads and hashes in turn, so that what is hashed still lies in the core's cache.
class ReadDigestWorker final : public SystemCallWorker {
 public:
  ReadDigestWorker(Napi::Env env, SharedDigest digest, int fd, const ByteBuffer& buffer,
                   int64_t offset, int64_t size)
      : SystemCallWorker(env, "imageio.readDigest"),
        digest_(std::move(digest)),
        fd_(fd),
        data_(buffer.Data()),
        piece_(buffer.Length()),
        offset_(offset),
        size_(size),
        buffer_(Napi::Persistent(buffer)) {
    digest_->is_busy = true;
  }

  ~ReadDigestWorker() override { digest_->is_busy = false; }

 private:
  void Call() override {
    while (done_ < size_) {
      const ssize_t got = ReadFully(fd_, data_, piece_, offset_ + done_);
      if (got == -1) return Fail("pread", errno);
      const int64_t wanted = std::min<int64_t>(got, size_ - done_);
      digest_->Update(data_, static_cast<size_t>(wanted));
      done_ += wanted;
      if (static_cast<size_t>(got) < piece_) return;
    }
  }

  Napi::Value Result(Napi::Env env) override {
    return Napi::Number::New(env, static_cast<double>(done_));
  }

  const SharedDigest digest_;
  const int fd_;
  uint8_t* const data_;
  const size_t piece_;
  const int64_t offset_;
  const int64_t size_;
  int64_t done_ = 0;
  const Napi::Reference<ByteBuffer> buffer_;
};

}  // namespace

Napi::Value DigestAlgorithms(Napi::Env env) {
  Napi::Array names = Napi::Array::New(env);
  for (const Algorithm& each : kAlgorithms) {
    names[names.Length()] = Napi::String::New(env, each.name);
  }
  return names;
}

Napi::Value CreateDigest(const Napi::CallbackInfo& info) {
  const std::string name = StringArgument(info, 0, "algorithm");
  for (const Algorithm& each : kAlgorithms) {
    if (name != each.name) continue;
    auto digest = std::make_unique<SharedDigest>(std::make_shared<Digest>(each));
    const auto external = Napi::External<SharedDigest>::New(
        info.Env(), digest.get(),
        [](Napi::Env, SharedDigest* held) { const std::unique_ptr<SharedDigest> adopted(held); });
    static_cast<void>(digest.release());
    external.TypeTag(&kDigestTag);
    return external;
  }
  throw Napi::RangeError::New(info.Env(), "algorithm must be one of digestAlgorithms");
}

Napi::Value UpdateDigest(const Napi::CallbackInfo& info) {
  SharedDigest digest = DigestArgument(info, 0);
  return Start<UpdateDigestWorker>(info, std::move(digest), BufferArgument(info, 1, "buffer"));
}

Napi::Value ReadDigest(const Napi::CallbackInfo& info) {
  SharedDigest digest = DigestArgument(info, 0);
  const int fd = DescriptorArgument(info, 1);
  const ByteBuffer buffer = BufferArgument(info, 2, "buffer");
  if (buffer.Length() == 0) throw Napi::RangeError::New(info.Env(), "buffer must not be empty");
  const int64_t offset = SizeArgument(info, 3, "offset");
  const int64_t size = SizeArgument(info, 4, "size");
  return Start<ReadDigestWorker>(info, std::move(digest), fd, buffer, offset, size);
}

Napi::Value UpdateDigestNow(const Napi::CallbackInfo& info) {
  const SharedDigest digest = DigestArgument(info, 0);
  const ByteBuffer buffer = BufferArgument(info, 1, "buffer");
  digest->Update(buffer.Data(), buffer.Length());
  return info.Env().Undefined();
}

Napi::Value FinishDigest(const Napi::CallbackInfo& info) {
  return DigestArgument(info, 0)->Finish(info.Env());
}

}  // namespace imageio
