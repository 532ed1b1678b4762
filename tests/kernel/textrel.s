# A table of addresses in text, which the loader has to relocate there (DT_TEXTREL).
    .text
    .globl table
table:
    .quad main
    .quad table
    .section .note.GNU-stack, "", @progbits
