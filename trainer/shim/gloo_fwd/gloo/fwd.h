// Declarations with which c10d's ProcessGroupGloo.hpp can be read without gloo's own headers; the libtorch wheels have none.
//
// The shim holds gloo's objects behind pointers only, whose layout does not depend on them, and never makes one itself.
// dist_group.cpp checks the sizes of c10d's classes as these declarations make them.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

namespace rendezvous {
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string&, const std::vector<char>&) = 0;
  virtual std::vector<char> get(const std::string&) = 0;
  virtual void wait(const std::vector<std::string>&) = 0;
  virtual void wait(const std::vector<std::string>&, const std::chrono::milliseconds&);
};
}  // namespace rendezvous

}  // namespace gloo
