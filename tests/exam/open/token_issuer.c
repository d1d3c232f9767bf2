/* A server for tokens. It works without fault for ten virtual minutes; then its first signing key expires, and each
 * token is signed with the old and the new key.
 *
 * Truth: `leaks`: from then on the second signature is forgotten for one token in five, whose audience is unknown.
 * `corrected`: it is freed.
 * Hard: a long history of health, in which every lifetime was short; the load does not change when the leak begins. */
#include "../exam.h"

static const double ROTATION = 600;

enum { TOKENS, SIGNATURES, KEYS };
static struct site sites[] = {
    HEALTHY("issue_token", "heap", "tokens live ten seconds"),
    PARTLY_LEAKS("sign_token", "heap", "the second signature is forgotten if the audience is unknown",
                 "signatures of tokens"),
    HEALTHY("load_key", "heap", "warm-up: one, and one for each rotation"),
};

struct token {
    struct timed timed;
    char *signature;
    char claims[300];
};
enum { SIGNATURE = 256, KEY = 2400 };
static struct wheel tokens;

static SITE struct token *issue_token(void) {
    return (struct token *)acquired(&sites[TOKENS], malloc(sizeof(struct token)), sizeof(struct token));
}

static SITE char *sign_token(void) { return (char *)acquired(&sites[SIGNATURES], malloc(SIGNATURE), SIGNATURE); }

static SITE char *load_key(void) { return (char *)acquired(&sites[KEYS], malloc(KEY), KEY); }

static void free_signature(char *signature) {
    released(&sites[SIGNATURES], SIGNATURE);
    free(signature);
}

int main(int argc, char **argv) {
    struct dice dice = {54};
    struct pace requests = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0, rotated = 0;
    begin();
    char *old = (char *)memset(load_key(), 'k', KEY), *current = old;
    for (long n; (n = due(&requests, 60)) >= 0;) {
        if (!rotated && now() >= ROTATION) {
            current = (char *)memset(load_key(), 'K', KEY);
            rotated = 1;
        }
        while (n-- > 0) {
            struct token *token = issue_token();
            memset(token->claims, 'c', sizeof token->claims);
            token->signature = (char *)memset(sign_token(), *current, SIGNATURE);
            wheel_add(&tokens, token, now() + about(&dice, 10));
            if (!rotated) continue;
            char *second = (char *)memset(sign_token(), *old, SIGNATURE);
            if (leaks && chance(&dice, 0.2)) lost(&sites[SIGNATURES], SIGNATURE);
            else free_signature(second);
        }
        for (struct timed *next, *timed = wheel_ended(&tokens, now()); timed != NULL; timed = next) {
            next = timed->next;
            free_signature(((struct token *)timed)->signature);
            released(&sites[TOKENS], sizeof(struct token));
            free(timed);
        }
    }
    FINISH("token_issuer", sites);
}
