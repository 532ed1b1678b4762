// Threads with containers of the standard library among their locals; it aborts once all of them wait.
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

static std::mutex mutex;
static std::condition_variable changed;
static int waiting;

static void wait_with(int number) {
    std::map<std::string, std::vector<int>> known{{"first", {number}}, {"second", {number, number + 1}}};
    std::unique_lock<std::mutex> lock(mutex);
    ++waiting;
    changed.notify_all();
    changed.wait(lock, [&known] { return known.empty(); });
}

int main(int count, char **) {
    count += 4;
    std::vector<std::thread> threads;
    for (int n = 0; n < count; ++n) threads.emplace_back(wait_with, n);
    std::string said = "all of them wait";
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [count] { return waiting == count; });
    std::abort();
}
