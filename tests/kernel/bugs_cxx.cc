#include <stdexcept>
extern "C" { extern volatile int sink; }
namespace {
struct Base {
    Base() { call(); }
    __attribute__((noinline)) void call() { made(); }
    virtual void made() = 0;
    virtual ~Base() {}
};
struct Child : Base {
    void made() override { }
};
}
extern "C" __attribute__((noinline)) void uncaught(int n) { if (n >= 0) throw std::runtime_error("no"); sink = sink + 1; }
extern "C" __attribute__((noinline)) void pure_virtual(int) { Child child; sink = sink + 1; }
