// bench_main: how every bench ends. Its command line is parsed and it runs; returns the exit
// status. What run() throws goes to stderr behind the program's name.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>

namespace sluice::bench {

template <class Run>
int bench_main(CLI::App& app, int argc, char** argv, Run run) {
  CLI11_PARSE(app, argc, argv);
  try {
    run();
  } catch (const std::exception& error) {
    const std::filesystem::path program(argv[0]);
    std::fprintf(stderr, "%s: %s\n", program.filename().c_str(), error.what());
    return 1;
  }
  return 0;
}

}  // namespace sluice::bench
