// A store of time series: an unordered_map of series by label, and a deque of the points of the last twenty seconds.
//
// Truth: `leaks`: every container that starts anywhere brings a new label, and series of labels that are gone stay in
// the map forever. `corrected`: they are erased.
// Hard: the map's table is one block that grows by rehashing, in steps; the deque acquires and frees a block all the
// time; labels that live and labels that are gone look the same.
#include "../exam.h"
#include <deque>
#include <string>
#include <unordered_map>

enum { SERIES, POINTS, ANSWERS };
static struct site sites[] = {
    PARTLY_LEAKS("add_series", "heap", "series of labels that are gone are never erased",
                 "labels that live; the map's table"),
    HEALTHY("add_point", "heap", "window of twenty seconds"),
    HEALTHY("answer_query", "heap", "freed at once"),
};

struct Series {
    double last, sums[12];
};
struct Point {
    long label;
    double time, value;
};
using Allocator = Counted<std::pair<const long, Series>>;
using Map = std::unordered_map<long, Series, std::hash<long>, std::equal_to<long>, Allocator>;
using Points = std::deque<Point, Counted<Point>>;

static Map map(0, &sites[SERIES]);

static SITE Series &add_series(long label) {
    Series &series = map[label];
    KEEP_FRAME();
    return series;
}

// Returns all points. The deque is made by the first of them.
static SITE Points &add_point(long label, double value) {
    static Points points(&sites[POINTS]);
    points.push_back({label, now(), value});
    KEEP_FRAME();
    return points;
}

static SITE void answer_query(size_t length) {
    std::basic_string<char, std::char_traits<char>, Counted<char>> text(length, '0', &sites[ANSWERS]);
    KEEP_FRAME();
}

// All nodes of the map have one size. The first one makes a table, too.
static size_t node_size() {
    add_series(-1);
    long before = sites[SERIES].acquired_bytes;
    add_series(-2);
    map.clear();
    return static_cast<size_t>(sites[SERIES].acquired_bytes - before);
}

int main(int argc, char **argv) {
    const long live = 400;
    struct dice dice = {46};
    struct pace new_points = {0, 0}, gone = {0, 0};
    bool leaks = choose(argc, argv, "leaks corrected") == 0;
    size_t size = node_size();
    long oldest = 0;
    begin();
    for (long n; (n = due(&new_points, 700)) >= 0;) {
        for (; n > 0; n--) {
            long label = oldest + between(&dice, 0, live - 1);
            add_series(label).last = now();
            Points &points = add_point(label, fraction(&dice));
            while (points.front().time < now() - 20) points.pop_front();
            if (chance(&dice, 0.02)) answer_query(static_cast<size_t>(between(&dice, 100, 9000)));
        }
        for (n = due(&gone, 6); n > 0; n--, oldest++) {
            if (!leaks) map.erase(oldest);
            else if (map.count(oldest) != 0) lost(&sites[SERIES], size);
        }
    }
    FINISH("series_store", sites);
}
