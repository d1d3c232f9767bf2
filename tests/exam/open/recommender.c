/* A recommender with a cache of users that live three minutes: it grows by 400 KiB a second for all of the first
 * minutes.
 *
 * Truth: `leaks`: beside the cache, the features of guests, four of whom come each second, are forgotten. `corrected`:
 * freed with the request.
 * Hard: one function leaks 1 KiB a second beside a healthy one that grows four hundred times as fast, and for a watcher
 * of two minutes nothing of the cache is released either, except what is replaced. */
#include "../exam.h"

enum { USERS = 200000, PROFILE = 4000, FEATURES = 256 };

enum { PROFILES, GUESTS, RANKINGS };
static struct site sites[] = {
    HEALTHY("cache_profile", "heap", "cache: users live three minutes"),
    PARTLY_LEAKS("extract_features", "heap", "the features of guests are forgotten", "freed with the request"),
    HEALTHY("rank_items", "heap", "freed at once"),
};

struct profile {
    struct timed timed;
    long user;
    char vector[PROFILE];
};
static struct profile *by_user[USERS];
static struct wheel expiry;

static SITE struct profile *cache_profile(void) {
    return (struct profile *)acquired(&sites[PROFILES], malloc(sizeof(struct profile)), sizeof(struct profile));
}

static SITE char *extract_features(void) { return (char *)acquired(&sites[GUESTS], malloc(FEATURES), FEATURES); }

static SITE char *rank_items(size_t size) { return (char *)acquired(&sites[RANKINGS], malloc(size), size); }

static void recommend(struct dice *dice, int leaks) {
    size_t size = (size_t)between(dice, 400, 3000);
    char *ranking = (char *)memset(rank_items(size), 'r', size);
    if (chance(dice, 0.03)) {
        char *features = (char *)memset(extract_features(), 'f', FEATURES);
        if (leaks) {
            lost(&sites[GUESTS], FEATURES);
        } else {
            released(&sites[GUESTS], FEATURES);
            free(features);
        }
    } else {
        long user = skewed(dice, USERS);
        if (by_user[user] == NULL) {
            struct profile *profile = by_user[user] = cache_profile();
            memset(profile->vector, 'v', PROFILE);
            profile->user = user;
            wheel_add(&expiry, profile, now() + 180);
        }
    }
    released(&sites[RANKINGS], size);
    free(ranking);
}

int main(int argc, char **argv) {
    struct dice dice = {56};
    struct pace requests = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&requests, 130)) >= 0;) {
        while (n-- > 0) recommend(&dice, leaks);
        for (struct timed *next, *timed = wheel_ended(&expiry, now()); timed != NULL; timed = next) {
            next = timed->next;
            by_user[((struct profile *)timed)->user] = NULL;
            released(&sites[PROFILES], sizeof(struct profile));
            free(timed);
        }
    }
    FINISH("recommender", sites);
}
