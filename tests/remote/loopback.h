// A server on loopback that answers each connection with bytes that a test has made.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tte::testing {

class Loopback {
 public:
  // Connection number i is answered with answers[i] once its request is whole, and then closed; the last answer is
  // given again and again.
  explicit Loopback(std::vector<std::string> answers) : answers_(std::move(answers)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_, any, size) != 0 || ::listen(listener_, 64) != 0 ||
        ::getsockname(listener_, any, &size) != 0) {
      throw std::runtime_error("no socket on loopback");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Loopback() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  Loopback(const Loopback&) = delete;
  Loopback& operator=(const Loopback&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  [[nodiscard]] std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    for (std::size_t i = 0;; ++i) {
      const int connection = ::accept(listener_, nullptr, nullptr);
      if (connection < 0) return;
      std::string request = read(connection);
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(std::move(request));
      }
      const std::string& answer = answers_[std::min(i, answers_.size() - 1)];
      std::size_t sent = 0;
      while (sent < answer.size()) {
        const ssize_t some = ::send(connection, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
        if (some <= 0) break;
        sent += static_cast<std::size_t>(some);
      }
      ::close(connection);
    }
  }

  static std::string read(int connection) {
    std::string out;
    char buffer[4096];
    while (true) {
      if (const std::size_t end = out.find("\r\n\r\n"); end != std::string::npos) {
        const std::size_t at = out.find("Content-Length: ");
        if (at == std::string::npos || out.size() >= end + 4 + std::stoul(out.substr(at + 16))) return out;
      }
      const ssize_t some = ::recv(connection, buffer, sizeof(buffer), 0);
      if (some <= 0) return out;
      out.append(buffer, static_cast<std::size_t>(some));
    }
  }

  std::vector<std::string> answers_;
  int listener_ = -1;
  int port_ = 0;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

}  // namespace tte::testing
