// order_backlog: orders are queued by a front thread and booked by workers through a bank.
//
// True: healthy. The bank is down now and then, for 8 to 16 virtual seconds; orders then wait in the queue, and further
// workers are started, up to six. Afterwards they book three times as fast as orders come, the queue becomes empty, and
// the further workers end and are joined.
//
// Hard: while the bank is down, orders, their lines and the blocks of the queue (a deque) grow in a straight line and
// nothing is freed; a run may end just then. Threads come and go with it.
#include "../exam.h"
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

enum { ACCEPT_ORDER, READ_LINES, ENQUEUE_ORDER, ADD_WORKER, SITES };
static struct site sites[SITES] = {
    HEALTHY("accept_order", "heap", "orders that wait; the backlog is worked off when the bank is up again"),
    HEALTHY("read_lines", "heap", "the lines of orders that wait"),
    HEALTHY("enqueue_order", "heap", "the queue's own blocks; they follow the backlog"),
    HEALTHY("add_worker", "thread", "one to six workers; they follow the backlog"),
};

enum { RATE = 500, MOST_WORKERS = 6 };
struct Line {
    uint64_t product;
    double price;
    char text[32];
};
struct Order {
    uint64_t number;
    char customer[80];
    std::vector<Line, Counted<Line>> lines{Counted<Line>(&sites[READ_LINES])};
    ~Order() { released(&sites[ACCEPT_ORDER], sizeof *this); }
};
using Queue = std::deque<std::unique_ptr<Order>, Counted<std::unique_ptr<Order>>>;

static std::mutex lock;
static std::condition_variable more;
static bool bank_is_up = true, over = false;
static unsigned further_workers = 0; // how many are wanted beside the first
static double total;

static std::optional<Queue> orders; // made by the first order, so that all of its memory belongs to enqueue_order

SITE static std::unique_ptr<Order> accept_order(uint64_t number) {
    Order *order = static_cast<Order *>(acquired(&sites[ACCEPT_ORDER], new Order, sizeof(Order)));
    order->number = number;
    return std::unique_ptr<Order>(order);
}

SITE static void read_lines(Order &order, size_t length) {
    order.lines.reserve(length);
    for (size_t i = 0; i < length; i++) order.lines.push_back({order.number + i, 9.99, "line"});
}

SITE static void enqueue_order(std::unique_ptr<Order> order) {
    if (!orders) orders.emplace(Queue::allocator_type(&sites[ENQUEUE_ORDER]));
    orders->push_back(std::move(order));
    KEEP_FRAME();
}

static void book(const Order &order) {
    for (const Line &line : order.lines) total += line.price;
}

// Each worker books a few orders at a time; a worker whose number is not wanted any more ends.
static void work(unsigned number) {
    std::unique_lock<std::mutex> held(lock);
    for (; !over && number <= further_workers;) {
        more.wait_for(held, std::chrono::milliseconds(10));
        if (!bank_is_up || !orders) continue;
        long most = (long)(RATE * 3 * 0.01 * exam.speed) + 1; // as many as the bank takes in this time
        for (; most > 0 && !orders->empty(); most--) {
            book(*orders->front());
            orders->pop_front();
        }
    }
}

SITE static std::thread add_worker(unsigned number) {
    std::thread worker(work, number);
    set_once(&sites[ADD_WORKER].first_us);
    count(&sites[ADD_WORKER].acquired_count, &sites[ADD_WORKER].acquired_bytes, 0);
    return worker;
}

static void join_worker(std::thread &worker) {
    worker.join();
    released(&sites[ADD_WORKER], 0);
}

int main() {
    dice dice = {711};
    pace pace = {0, 0};
    uint64_t numbers = 0;
    std::vector<std::thread> workers;
    workers.reserve(MOST_WORKERS);
    begin();
    double changes = 10;
    workers.push_back(add_worker(0));
    for (long n; (n = due(&pace, RATE)) >= 0;) {
        std::unique_lock<std::mutex> held(lock);
        for (; n > 0; n--) {
            auto order = accept_order(numbers++);
            read_lines(*order, (size_t)(1 + skewed(&dice, 12)));
            enqueue_order(std::move(order));
        }
        if (now() >= changes) {
            bank_is_up = !bank_is_up;
            changes = now() + (double)(bank_is_up ? between(&dice, 14, 26) : between(&dice, 8, 16));
        }
        size_t waiting = orders ? orders->size() : 0, wanted = waiting / 600;
        if (wanted >= workers.size() && workers.size() < MOST_WORKERS) {
            further_workers = (unsigned)workers.size();
            workers.push_back(add_worker(further_workers));
        } else if (waiting == 0 && workers.size() > 1) {
            further_workers = (unsigned)workers.size() - 2;
            held.unlock();
            join_worker(workers.back());
            workers.pop_back();
        }
    }
    {
        std::unique_lock<std::mutex> held(lock);
        over = true;
    }
    for (std::thread &worker : workers) join_worker(worker);
    FINISH("order_backlog", sites);
}
