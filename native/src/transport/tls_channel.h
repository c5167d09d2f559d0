#ifndef IMAGEIO_NATIVE_TRANSPORT_TLS_CHANNEL_H_
#define IMAGEIO_NATIVE_TRANSPORT_TLS_CHANNEL_H_

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "byte_queue.h"
#include "channel.h"

namespace imageio::transport {

struct TlsSettings {
  std::string key;   // PEM
  std::string cert;  // PEM, with its chain
  // As core/http/tls.ts has them, names of TLS 1.3 and 1.2 in one list.
  std::string ciphers;
};

// What the handshakes of a listener have in common. Never changes; a new certificate is a new one.
class TlsContext {
 public:
  // Nothing, and the reason in `error`, when it cannot be used.
  static std::shared_ptr<TlsContext> Create(const TlsSettings& settings, std::string* error);

  SSL_CTX* get() const { return context_.get(); }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  explicit TlsContext(SSL_CTX* context) : context_(context) {}

  const std::unique_ptr<SSL_CTX, Free> context_;
};

// TLS over a socket that is read and written in batches: what counts is bytes per system call, and
// OpenSSL by itself makes two or three for each record of 16 KiB.
class TlsChannel final : public Channel {
 public:
  TlsChannel(FileDescriptor socket, std::shared_ptr<TlsContext> context);

  IoStatus Handshake() override;
  IoStatus Read(uint8_t* data, size_t size, size_t* done) override;
  IoStatus Write(const uint8_t* data, size_t size, size_t* done) override;
  IoStatus Flush() override;
  void EndWriting() override;
  bool HasUnread() const override { return !received_.empty() || SSL_pending(ssl_.get()) > 0; }
  bool HasIdleMemory() const override {
    return received_.HasIdleMemory() || unsent_.HasIdleMemory();
  }
  void Trim() override;

 private:
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  static BIO_METHOD* Method();
  static int ReadBatch(BIO* bio, char* data, int size);
  static int WriteBatch(BIO* bio, const char* data, int size);
  static long Control(BIO* bio, int command, long number, void* pointer);  // NOLINT: OpenSSL's type

  // What a call of OpenSSL that did not succeed means.
  IoStatus Explain(int result);

  const std::shared_ptr<TlsContext> context_;
  ByteQueue received_;
  ByteQueue unsent_;
  bool has_ended_ = false;
  std::unique_ptr<SSL, Free> ssl_;
};

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_TLS_CHANNEL_H_
