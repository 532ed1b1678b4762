/* A small shared object with something in every segment an ELF image can have. */
#ifndef BSS
#define BSS (1 << 16)
#endif

static int counted = 1;
static int *const relocated[] = {&counted, &counted + 1};
static volatile char in_bss[BSS];
int *in_data = &counted;
int stays_zero;

const char *specimen_text(int n)
{
    static const char words[] = "read-only data of a small shared object";
    return words + (n & 3);
}

int specimen_step(int n)
{
    in_bss[n & (BSS - 1)] = 1;
    return *relocated[0] + *in_data + n;
}
