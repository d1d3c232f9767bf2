// The search index of a catalog, in standard containers: a vector of products that is rebuilt every ten seconds, a map
// of prices that is replaced in place, and a map of suggestions with their texts.
//
// Truth: `leaks`: products that are withdrawn leave their suggestion in the map; its key is never used again.
// `corrected`: withdrawing erases it.
// Hard: the growing container is reachable and in use; the vector grows by doubling for ten seconds and shrinks in one
// step; the map of prices fills for half a minute.
#include "../exam.h"
#include <map>
#include <string>
#include <vector>

enum { PRODUCTS, PRICES, SUGGESTIONS, TEXTS };
static struct site sites[] = {
    HEALTHY("add_product", "heap", "vector that is rebuilt every ten seconds"),
    HEALTHY("set_price", "heap", "map with at most 5,000 keys"),
    PARTLY_LEAKS("suggest", "heap", "withdrawn products stay in the map of suggestions", "products on sale"),
    PARTLY_LEAKS("write_text", "heap", "withdrawn products stay in the map of suggestions", "products on sale"),
};

using Text = std::basic_string<char, std::char_traits<char>, Counted<char>>;
template <class Value> using Map = std::map<long, Value, std::less<long>, Counted<std::pair<const long, Value>>>;
struct Product {
    long number;
    double score;
};
using Products = std::vector<Product, Counted<Product>>;

static SITE void add_product(Products &products, long number) {
    products.push_back({number, 0.5});
    KEEP_FRAME();
}

static SITE void set_price(Map<double> &prices, long key, double price) {
    prices[key] = price;
    KEEP_FRAME();
}

static SITE Text write_text(size_t length) {
    Text text(length, 's', &sites[TEXTS]);
    KEEP_FRAME();
    return text;
}

static SITE void suggest(Map<Text> &suggestions, long number, Text &text) {
    suggestions.emplace(number, std::move(text));
    KEEP_FRAME();
}

// All nodes of the map have one size.
static size_t node_size(Map<Text> &suggestions) {
    long before = sites[SUGGESTIONS].acquired_bytes;
    Text empty(&sites[TEXTS]);
    suggest(suggestions, -1, empty);
    suggestions.clear();
    return static_cast<size_t>(sites[SUGGESTIONS].acquired_bytes - before);
}

int main(int argc, char **argv) {
    const long on_sale = 2000;
    struct dice dice = {45};
    struct pace new_products = {0, 0}, new_prices = {0, 0};
    bool leaks = choose(argc, argv, "leaks corrected") == 0;
    // Never destroyed, as global objects of a server.
    Products &products = *new Products(&sites[PRODUCTS]);
    Map<double> &prices = *new Map<double>(&sites[PRICES]);
    Map<Text> &suggestions = *new Map<Text>(&sites[SUGGESTIONS]);
    size_t size = node_size(suggestions);
    double rebuild_at = 10;
    long newest = 0;
    begin();
    for (long n; (n = due(&new_products, 120)) >= 0;) {
        for (; n > 0; n--, newest++) {
            Text text = write_text(static_cast<size_t>(between(&dice, 24, 90)));
            suggest(suggestions, newest, text);
            if (newest < on_sale) continue;
            auto withdrawn = suggestions.find(newest - on_sale);
            if (leaks) {
                lost(&sites[SUGGESTIONS], size);
                lost(&sites[TEXTS], withdrawn->second.capacity() + 1);
            } else {
                suggestions.erase(withdrawn);
            }
        }
        for (n = due(&new_prices, 300); n > 0; n--) {
            set_price(prices, between(&dice, 0, 4999), fraction(&dice));
            add_product(products, n);
        }
        if (now() < rebuild_at) continue;
        Products(&sites[PRODUCTS]).swap(products);
        rebuild_at = now() + 10;
    }
    FINISH("catalog_index", sites);
}
