#include "tls_channel.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <string_view>

namespace imageio::transport {

namespace {

constexpr size_t kBufferSize = size_t{256} * 1024;
constexpr size_t kRecord = size_t{16} * 1024;
// A record and more than any suite adds to it.
constexpr size_t kSealedRecord = kRecord + 1024;

// 'ERR_SSL_NO_SHARED_CIPHER', as Node calls it.
std::string LastReason() {
  const char* text = ERR_reason_error_string(ERR_peek_last_error());
  std::string name = std::string("ERR_SSL_") + (text == nullptr ? "FAILED" : text);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char byte) {
    return byte == ' ' ? '_' : static_cast<char>(std::toupper(byte));
  });
  return name;
}

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
using OwnedBio = std::unique_ptr<BIO, FreeBio>;
using OwnedCertificate = std::unique_ptr<X509, FreeCertificate>;

OwnedBio Text(const std::string& pem) {
  return OwnedBio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

bool UseCertificates(SSL_CTX* context, const std::string& pem) {
  const OwnedBio bio = Text(pem);
  const OwnedCertificate own(PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr));
  if (own == nullptr || SSL_CTX_use_certificate(context, own.get()) != 1) return false;
  for (;;) {
    const OwnedCertificate issuer(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (issuer == nullptr) break;
    if (SSL_CTX_add1_chain_cert(context, issuer.get()) != 1) return false;
  }
  ERR_clear_error();  // that there are no more
  return true;
}

bool UseKey(SSL_CTX* context, const std::string& pem) {
  const OwnedBio bio = Text(pem);
  const std::unique_ptr<EVP_PKEY, FreeKey> key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  return key != nullptr && SSL_CTX_use_PrivateKey(context, key.get()) == 1 &&
         SSL_CTX_check_private_key(context) == 1;
}

bool UseAuthorities(SSL_CTX* context, const std::string& pem) {
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  const OwnedBio bio = Text(pem);
  for (;;) {
    const OwnedCertificate authority(PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr));
    if (authority == nullptr) break;
    if (X509_STORE_add_cert(store, authority.get()) != 1) return false;
  }
  ERR_clear_error();  // that there are no more
  return true;
}

bool UseCiphers(SSL_CTX* context, std::string_view names) {
  std::string suites;
  std::string ciphers;
  while (!names.empty()) {
    const size_t end = std::min(names.find(':'), names.size());
    const std::string_view name = names.substr(0, end);
    std::string& list = name.starts_with("TLS_") ? suites : ciphers;
    if (!list.empty()) list += ':';
    list += name;
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  return SSL_CTX_set_ciphersuites(context, suites.c_str()) == 1 &&
         SSL_CTX_set_cipher_list(context, ciphers.c_str()) == 1;
}

// Named, as OpenSSL wants it of servers, and as long as Node's: tickets are of the same size then.
constexpr unsigned char kSessionContext[] = "imageio-front: sessions of HTTP1";

constexpr unsigned char kHttp1[] = "\x08http/1.1";

// Clients that got here offer http/1.1 or know no ALPN, see client_hello.h.
int ChooseHttp1(SSL* /*ssl*/, const unsigned char** out, unsigned char* out_size,
                const unsigned char* in, unsigned int in_size, void* /*argument*/) {
  unsigned char* chosen = nullptr;
  const int result =
      SSL_select_next_proto(&chosen, out_size, kHttp1, sizeof(kHttp1) - 1, in, in_size);
  *out = chosen;
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace

std::shared_ptr<TlsContext> TlsContext::Make(const SSL_METHOD* method) {
  ERR_clear_error();
  SSL_CTX* context = SSL_CTX_new(method);
  if (context == nullptr) throw std::bad_alloc();
  std::shared_ptr<TlsContext> owned(new TlsContext(context));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // A peer that ends the connection without saying so is judged by Content-Length, as by Node.
  SSL_CTX_set_options(
      context, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_COMPRESSION);
  // Not SSL_MODE_RELEASE_BUFFERS, which frees and allocates for each record: Trim() does it.
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Sessions are with the clients, in tickets.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  return owned;
}

std::shared_ptr<TlsContext> TlsContext::Create(const TlsSettings& settings, std::string* error) {
  auto owned = Make(TLS_server_method());
  SSL_CTX* context = owned->get();
  SSL_CTX_set_alpn_select_cb(context, ChooseHttp1, nullptr);
  SSL_CTX_set_session_id_context(context, kSessionContext, sizeof(kSessionContext) - 1);
  if (UseCiphers(context, settings.ciphers) && UseCertificates(context, settings.cert) &&
      UseKey(context, settings.key)) {
    return owned;
  }
  *error = LastReason();
  ERR_clear_error();
  return nullptr;
}

std::shared_ptr<TlsContext> TlsContext::Create(const TlsClientSettings& settings,
                                               std::string* error) {
  auto owned = Make(TLS_client_method());
  SSL_CTX* context = owned->get();
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const bool has_key = !settings.key.empty();
  if (SSL_CTX_set_alpn_protos(context, kHttp1, sizeof(kHttp1) - 1) == 0 &&
      UseCiphers(context, settings.ciphers) && UseAuthorities(context, settings.authorities) &&
      (!has_key || (UseCertificates(context, settings.cert) && UseKey(context, settings.key)))) {
    return owned;
  }
  *error = LastReason();
  ERR_clear_error();
  return nullptr;
}

TlsChannel::TlsChannel(FileDescriptor socket, std::shared_ptr<TlsContext> context)
    : Channel(std::move(socket)),
      context_(std::move(context)),
      received_(kBufferSize),
      unsent_(kBufferSize),
      ssl_(SSL_new(context_->get())) {
  BIO* bio = ssl_ == nullptr ? nullptr : BIO_new(Method());
  if (bio == nullptr) throw std::bad_alloc();
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_accept_state(ssl_.get());
}

TlsChannel::TlsChannel(FileDescriptor socket, std::shared_ptr<TlsContext> context,
                       const TlsPeer& peer)
    : TlsChannel(std::move(socket), std::move(context)) {
  SSL_set_connect_state(ssl_.get());
  X509_VERIFY_PARAM* rules = SSL_get0_param(ssl_.get());
  // Which of both it is, the first call finds out. Without either nobody would be asked for.
  const bool is_asked_for =
      X509_VERIFY_PARAM_set1_ip_asc(rules, peer.host.c_str()) == 1 ||
      (!peer.host.empty() &&
       X509_VERIFY_PARAM_set1_host(rules, peer.host.data(), peer.host.size()) == 1);
  ERR_clear_error();
  const bool is_named = peer.server_name.empty() ||
                        SSL_set_tlsext_host_name(ssl_.get(), peer.server_name.c_str()) == 1;
  if (!is_asked_for || !is_named) throw std::invalid_argument("no name to verify");
}

BIO_METHOD* TlsChannel::Method() {
  // Lives as long as the process; a static that is destroyed could be so before its last user.
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "imageio batches");
    if (made == nullptr) throw std::bad_alloc();
    BIO_meth_set_read(made, ReadBatch);
    BIO_meth_set_write(made, WriteBatch);
    BIO_meth_set_ctrl(made, Control);
    return made;
  }();
  return method;
}

int TlsChannel::ReadBatch(BIO* bio, char* data, int size) {
  auto& channel = *static_cast<TlsChannel*>(BIO_get_data(bio));
  ByteQueue& received = channel.received_;
  BIO_clear_retry_flags(bio);
  if (received.empty()) {
    const auto room = received.Room();
    size_t got = 0;
    const IoStatus status = channel.Receive(room.data(), room.size(), &got);
    if (status == IoStatus::kWantRead) BIO_set_retry_read(bio);
    if (status == IoStatus::kEnd) channel.has_ended_ = true;
    if (status != IoStatus::kDone) return status == IoStatus::kEnd ? 0 : -1;
    received.Added(got);
  }
  const size_t taken = std::min(static_cast<size_t>(size), received.size());
  std::memcpy(data, received.data().data(), taken);
  received.Taken(taken);
  return static_cast<int>(taken);
}

int TlsChannel::WriteBatch(BIO* bio, const char* data, int size) {
  auto& channel = *static_cast<TlsChannel*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (channel.unsent_.Append(reinterpret_cast<const uint8_t*>(data), static_cast<size_t>(size))) {
    return size;
  }
  BIO_set_retry_write(bio);
  return -1;
}

long TlsChannel::Control(BIO* bio, int command, long /*number*/, void* /*pointer*/) {  // NOLINT
  const auto& channel = *static_cast<TlsChannel*>(BIO_get_data(bio));
  if (command == BIO_CTRL_FLUSH) return 1;  // our own Flush() decides when
  if (command == BIO_CTRL_EOF) return channel.has_ended_ && channel.received_.empty() ? 1 : 0;
  return 0;
}

IoStatus TlsChannel::Explain(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return IoStatus::kWantRead;
    case SSL_ERROR_WANT_WRITE:
      return IoStatus::kWantWrite;
    case SSL_ERROR_ZERO_RETURN:
      return IoStatus::kEnd;
    case SSL_ERROR_SYSCALL:
      if (error_ == 0) error_ = ECONNRESET;
      reason_ = "ECONNRESET";
      break;
    default:
      reason_ = LastReason();
      // The alert that says why; behind an error nothing is sent.
      static_cast<void>(Flush());
      if (error_ == 0) error_ = EPROTO;
  }
  ERR_clear_error();
  return IoStatus::kFailed;
}

IoStatus TlsChannel::Handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  const IoStatus status = result == 1 ? IoStatus::kDone : Explain(result);
  const IoStatus flushed = Flush();
  if (status == IoStatus::kFailed || status == IoStatus::kEnd) {
    const long verdict = SSL_get_verify_result(ssl_.get());  // NOLINT: OpenSSL's type
    is_distrusted_ = verdict != X509_V_OK;
    if (is_distrusted_) reason_ = X509_verify_cert_error_string(verdict);
    return IoStatus::kFailed;
  }
  if (flushed == IoStatus::kFailed) return flushed;
  return status == IoStatus::kWantWrite ? flushed : status;
}

IoStatus TlsChannel::Read(uint8_t* data, size_t size, size_t* done) {
  *done = 0;
  ERR_clear_error();
  while (*done < size) {
    size_t got = 0;
    const int result = SSL_read_ex(ssl_.get(), data + *done, size - *done, &got);
    if (result != 1) return Explain(result);
    *done += got;
    CountReceived(got);
  }
  return IoStatus::kDone;
}

IoStatus TlsChannel::Write(const uint8_t* data, size_t size, size_t* done) {
  *done = 0;
  ERR_clear_error();
  while (*done < size) {
    // A record is only begun when it fits, so that OpenSSL never has a half of one to send.
    if (unsent_.room() < kSealedRecord || unsent_.Room().size() < kSealedRecord) {
      const IoStatus flushed = Flush();
      if (flushed != IoStatus::kDone) return flushed;
    }
    size_t put = 0;
    const size_t piece = std::min(size - *done, kRecord);
    const int result = SSL_write_ex(ssl_.get(), data + *done, piece, &put);
    if (result != 1) return Explain(result);
    *done += put;
  }
  return IoStatus::kDone;
}

IoStatus TlsChannel::Flush() {
  while (!unsent_.empty()) {
    size_t put = 0;
    const IoStatus status = Send(unsent_.data().data(), unsent_.size(), &put);
    if (status != IoStatus::kDone) return status;
    unsent_.Taken(put);
  }
  return IoStatus::kDone;
}

void TlsChannel::EndWriting() {
  ERR_clear_error();
  // A connection that failed must not be shut down (SSL_shutdown(3)).
  if (error_ == 0) static_cast<void>(SSL_shutdown(ssl_.get()));
  static_cast<void>(Flush());
  ERR_clear_error();
  ShutDownWriting();
}

void TlsChannel::Trim() {
  received_.Trim();
  unsent_.Trim();
  static_cast<void>(SSL_free_buffers(ssl_.get()));  // unless there is something in them
}

}  // namespace imageio::transport
