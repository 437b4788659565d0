# Compiler options of this project alone. They travel through one interface target that is linked
# privately, so that nothing here reaches a project that uses Sluice.
add_library(sluice_options INTERFACE)
target_compile_options(sluice_options INTERFACE
  -Wall -Wextra -Wconversion -Wshadow
  # GCC 12 sees overlaps in "literal" + std::string, where there are none (its bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  # The bits of the output are part of the contract: no contraction of a*b+c unless the code says
  # fma.
  -ffp-contract=off)
if(SLUICE_WERROR)
  target_compile_options(sluice_options INTERFACE -Werror)
endif()
