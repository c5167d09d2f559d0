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

// Of connections that are dialed.
struct TlsClientSettings {
  std::string authorities;  // PEM, all that are trusted
  // What is shown to servers that ask; both or none.
  std::string key;
  std::string cert;
  std::string ciphers;
};

// What the handshakes of a listener, or of one kind of dialed connections, have in common. Never
// changes; a new certificate is a new one.
class TlsContext {
 public:
  // Nothing, and the reason in `error`, when it cannot be used.
  static std::shared_ptr<TlsContext> Create(const TlsSettings& settings, std::string* error);
  static std::shared_ptr<TlsContext> Create(const TlsClientSettings& settings, std::string* error);

  SSL_CTX* get() const { return context_.get(); }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  explicit TlsContext(SSL_CTX* context) : context_(context) {}
  static std::shared_ptr<TlsContext> Make(const SSL_METHOD* method);

  const std::unique_ptr<SSL_CTX, Free> context_;
};

// Whom a dialed connection has to lead to.
struct TlsPeer {
  std::string server_name;  // asked for (SNI); none for an address
  std::string host;         // name or address that the certificate has to have
};

// TLS over a socket that is read and written in batches: what counts is bytes per system call, and
// OpenSSL by itself makes two or three for each record of 16 KiB.
class TlsChannel final : public Channel {
 public:
  // As a server.
  TlsChannel(FileDescriptor socket, std::shared_ptr<TlsContext> context);
  // As a client.
  TlsChannel(FileDescriptor socket, std::shared_ptr<TlsContext> context, const TlsPeer& peer);

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
