#pragma once

// Checks the page policy, its account, and that the huge page pools are afterwards as they were. Sets their size, as root, where nobody
// else has; what it cannot check is printed as a JSON line that says why.
void examine_pages(unsigned seed);

// Prints the policy of the switches.
void print_page_policy();
