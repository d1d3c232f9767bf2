/* A web framework that compiles a template when it is first used: 300 templates, nearly all in the first half minute.
 * Editors change one template a second, which compiles it again.
 *
 * Truth: `leaks`: compiling again frees the old root but not its nodes. `corrected`: it frees both.
 * Hard: warm-up allocates the same trees at the same call sites; the leak is a change of the slope, not a beginning. */
#include "../exam.h"

enum { TEMPLATES = 300 };

enum { ROOTS, NODES, PAGES };
static struct site sites[] = {
    HEALTHY("compile_template", "heap", "warm-up: one for each template"),
    PARTLY_LEAKS("add_node", "heap", "compiling a template again forgets the nodes of the old one",
                 "nodes of 300 templates"),
    HEALTHY("render_page", "heap", "freed at once"),
};

struct node {
    struct node *next;
    size_t size;
    char text[];
};
struct root {
    struct node *nodes;
    char name[56];
};
static struct root *templates[TEMPLATES];

static SITE struct root *compile_template(void) {
    return (struct root *)acquired(&sites[ROOTS], calloc(1, sizeof(struct root)), sizeof(struct root));
}

static SITE struct node *add_node(size_t size) {
    return (struct node *)acquired(&sites[NODES], malloc(sizeof(struct node) + size), sizeof(struct node) + size);
}

static SITE char *render_page(size_t size) { return (char *)acquired(&sites[PAGES], malloc(size), size); }

static void discard(struct root *root, int leaks) {
    for (struct node *next, *node = root->nodes; node != NULL; node = next) {
        size_t size = sizeof *node + node->size;
        next = node->next;
        if (leaks) {
            lost(&sites[NODES], size);
            continue;
        }
        released(&sites[NODES], size);
        free(node);
    }
    released(&sites[ROOTS], sizeof *root);
    free(root);
}

static struct root *load(struct dice *dice) {
    struct root *root = compile_template();
    for (long i = between(dice, 10, 50); i > 0; i--) {
        size_t size = (size_t)between(dice, 20, 160);
        struct node *node = add_node(size);
        memset(node->text, 'n', size);
        node->size = size;
        node->next = root->nodes;
        root->nodes = node;
    }
    return root;
}

int main(int argc, char **argv) {
    struct dice dice = {37};
    struct pace requests = {0, 0};
    double change_at = 5;
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&requests, 150)) >= 0;) {
        while (n-- > 0) {
            struct root **wanted = &templates[skewed(&dice, TEMPLATES)];
            if (*wanted == NULL) *wanted = load(&dice);
            char *page = (char *)memset(render_page(3000), 'p', 3000);
            released(&sites[PAGES], 3000);
            free(page);
        }
        for (; now() >= change_at; change_at += 1) {
            struct root **changed = &templates[between(&dice, 0, TEMPLATES - 1)];
            if (*changed == NULL) continue;
            discard(*changed, leaks);
            *changed = load(&dice);
        }
    }
    FINISH("template_engine", sites);
}
