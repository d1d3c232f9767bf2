/* document_store: documents are parsed into many small nodes, answered from, and dropped; of some parts, a summary
 * stays in a bounded list; texts that are edited are reallocated again and again.
 *
 * True: healthy. A crawler delivers most documents in a burst every ten seconds; all nodes of a document are freed two
 * seconds later. The list keeps the last 12,000 summaries; there are 400 texts, whose sizes wander between 200 bytes
 * and 12 KiB.
 *
 * Hard: the heap is fragmented: summaries lie between the nodes of documents that are gone and pin their pages, so that
 * tens of megabytes stay resident of which few are in use; summaries grow for half a minute and never shrink. */
#include "../exam.h"

enum { PARSE_NODE, KEEP_SUMMARY, EDIT_TEXT, SITES };
static struct site sites[SITES] = {
    HEALTHY("parse_node", "heap", "the nodes of a document, freed two seconds later"),
    HEALTHY("keep_summary", "heap", "the last 12000 summaries, in a ring"),
    HEALTHY("edit_text", "heap", "400 texts, reallocated when they are edited"),
};

enum { SUMMARIES = 12000, TEXTS = 400, BURST = 80, TRICKLE = 2, EDITS = 150, SUMMARY_ONE_IN = 24 };
struct node {
    struct node *next;
    uint32_t size;
    char text[];
};
struct document {
    struct timed timed;
    struct node *nodes;
};
struct summary {
    uint32_t document, words;
    char title[48];
};

static struct dice dice = {1666};
static struct wheel documents;
static struct document slots[4096]; /* more than can be open at one time */
static struct summary *summaries[SUMMARIES];
static unsigned long documents_read, summaries_made;
static char *texts[TEXTS];
static size_t sizes[TEXTS];

SITE static struct node *parse_node(struct node *next, uint32_t size) {
    struct node *node = acquired(&sites[PARSE_NODE], malloc(sizeof *node + size), sizeof *node + size);
    *node = (struct node){next, size};
    memset(node->text, 'n', size);
    return node;
}

SITE static void keep_summary(uint32_t words) {
    struct summary **slot = &summaries[summaries_made++ % SUMMARIES];
    if (*slot != NULL) {
        released(&sites[KEEP_SUMMARY], sizeof **slot);
        free(*slot);
    }
    *slot = acquired(&sites[KEEP_SUMMARY], malloc(sizeof **slot), sizeof **slot);
    **slot = (struct summary){(uint32_t)documents_read, words, "summary"};
}

SITE static void edit_text(int number, size_t size) {
    if (texts[number] != NULL) released(&sites[EDIT_TEXT], sizes[number]);
    texts[number] = acquired(&sites[EDIT_TEXT], realloc(texts[number], size), size);
    texts[number][size - 1] = '.';
    sizes[number] = size;
}

static void read_document(void) {
    struct document *document = &slots[documents_read % 4096];
    if (document->nodes != NULL) return;
    long nodes = between(&dice, 200, 1800);
    documents_read++;
    for (long i = 0; i < nodes; i++) {
        document->nodes = parse_node(document->nodes, (uint32_t)(16 + skewed(&dice, 900)));
        if (chance(&dice, 1.0 / SUMMARY_ONE_IN)) keep_summary((uint32_t)i);
    }
    wheel_add(&documents, document, now() + 2);
}

static void drop_document(struct document *document) {
    for (struct node *next; document->nodes != NULL; document->nodes = next) {
        next = document->nodes->next;
        released(&sites[PARSE_NODE], sizeof *next + document->nodes->size);
        free(document->nodes);
    }
}

static void change_text(void) {
    int number = (int)skewed(&dice, TEXTS);
    long size = (long)sizes[number] + between(&dice, -400, 420);
    if (size < 200) size = between(&dice, 200, 1000);
    if (size > 12 << 10) size /= 3;
    edit_text(number, (size_t)size);
}

int main(void) {
    struct pace reads = {0}, edits = {0};
    begin();
    for (long n; (n = due(&reads, (long)(now() * 2) % 20 < 3 ? BURST : TRICKLE)) >= 0;) {
        while (n-- > 0) read_document();
        for (n = due(&edits, EDITS); n > 0; n--) change_text();
        struct timed *next;
        for (struct timed *ended = wheel_ended(&documents, now()); ended != NULL; ended = next) {
            next = ended->next;
            drop_document((struct document *)ended);
        }
    }
    FINISH("document_store", sites);
}
