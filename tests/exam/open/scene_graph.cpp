// A server for shared drawings: each drawing is a tree of shapes, and each shape knows its parent.
//
// Truth: `leaks`: shapes in groups own their parent by shared_ptr, which makes a cycle, so that closing the drawing
// frees only what is not in a group. `corrected`: they know it by weak_ptr.
// Hard: every drawing is dropped in the same way, and half of its memory is freed; the program calls no release that
// one could miss. Drawings stay open for long.
#include "../exam.h"
#include <memory>
#include <vector>

enum { SHAPES, GROUPS, CHILDREN, OUTLINES };
static struct site sites[] = {
    PARTLY_LEAKS("add_shape", "heap", "shapes in a group and their group own each other", "shapes of open drawings"),
    PARTLY_LEAKS("add_group", "heap", "shapes in a group and their group own each other", "groups of open drawings"),
    PARTLY_LEAKS("insert_child", "heap", "shapes in a group and their group own each other", "lists of open drawings"),
    HEALTHY("render_outline", "heap", "freed at once"),
};
static bool leaks;

struct Group;
struct Shape {
    std::shared_ptr<Group> owner;
    std::weak_ptr<Group> parent;
    double box[8];
};
using ShapePtr = std::shared_ptr<Shape>;
struct Group {
    std::vector<ShapePtr, Counted<ShapePtr>> children{&sites[CHILDREN]};
    double transform[6];
};
struct Drawing {
    struct timed timed;
    std::shared_ptr<Group> root, group;
};

static SITE ShapePtr add_shape() {
    ShapePtr shape = std::allocate_shared<Shape>(Counted<Shape>(&sites[SHAPES]));
    KEEP_FRAME();
    return shape;
}

static SITE std::shared_ptr<Group> add_group() {
    std::shared_ptr<Group> group = std::allocate_shared<Group>(Counted<Group>(&sites[GROUPS]));
    KEEP_FRAME();
    return group;
}

static SITE void insert_child(Group &group, const ShapePtr &shape) {
    group.children.push_back(shape);
    KEEP_FRAME();
}

static SITE void render_outline(size_t points) {
    std::vector<double, Counted<double>> outline(points, 0.0, &sites[OUTLINES]);
    KEEP_FRAME();
}

static size_t shape_size, group_size;

static void open_drawing(Drawing &drawing, struct dice *dice) {
    drawing.root = add_group();
    drawing.group = add_group();
    for (long i = between(dice, 4, 12); i > 0; i--) insert_child(*drawing.root, add_shape());
    for (long i = between(dice, 2, 6); i > 0; i--) {
        ShapePtr shape = add_shape();
        if (leaks) shape->owner = drawing.group;
        else shape->parent = drawing.group;
        insert_child(*drawing.group, shape);
    }
}

static void close_drawing(Drawing &drawing) {
    if (leaks) {
        lost(&sites[GROUPS], group_size);
        lost(&sites[CHILDREN], drawing.group->children.capacity() * sizeof(ShapePtr));
        for (size_t i = 0; i < drawing.group->children.size(); i++) lost(&sites[SHAPES], shape_size);
    }
    drawing.root.reset();
    drawing.group.reset();
}

int main(int argc, char **argv) {
    const int most = 2000;
    struct dice dice = {49};
    struct pace opened = {0, 0};
    static struct wheel closing;
    static Drawing drawings[most];
    static Drawing *unused[most];
    int left = 0;
    leaks = choose(argc, argv, "leaks corrected") == 0;
    for (Drawing &drawing : drawings) unused[left++] = &drawing;
    add_shape(), shape_size = static_cast<size_t>(sites[SHAPES].acquired_bytes);
    add_group(), group_size = static_cast<size_t>(sites[GROUPS].acquired_bytes);
    begin();
    for (long n; (n = due(&opened, 8)) >= 0;) {
        for (; n > 0 && left > 0; n--) {
            Drawing *drawing = unused[--left];
            open_drawing(*drawing, &dice);
            wheel_add(&closing, drawing, now() + about(&dice, 10));
        }
        render_outline(static_cast<size_t>(between(&dice, 50, 500)));
        for (struct timed *next, *ended = wheel_ended(&closing, now()); ended != NULL; ended = next) {
            next = ended->next;
            close_drawing(*reinterpret_cast<Drawing *>(ended));
            unused[left++] = reinterpret_cast<Drawing *>(ended);
        }
    }
    FINISH("scene_graph", sites);
}
