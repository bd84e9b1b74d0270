// Traps in a function of a function, so that a test can look for their lines.
#include <stdlib.h>

static void card(volatile int *amount) {
    *amount += 1;
    __builtin_trap();
}

static void charge(int amount) {
    card(&amount);
    abort();
}

int main(int argc, char **argv) {
    charge(argc);
    return 0;
}
