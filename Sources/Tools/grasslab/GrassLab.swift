import ArgumentParser
import Foundation
import Host
import Lab

@main
struct GrassLab: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "grasslab",
    abstract: "Boots real Linux guests to watch, and breaks them on purpose.",
    discussion: "Guests end with this program, however it ends, and leave nothing behind.",
    version: "grasslab \(Version.current)",
    subcommands: [Boot.self, Run.self, BreakCommand.self, Card.self, Kernels.self])
}

/// Which guest: shared by all commands that boot one.
struct BootOptions: ParsableArguments {
  @Option(help: "A label of `grasslab kernels` (6.1, 6.12-cloud, …), a release, or the path of a vmlinuz.")
  var kernel = "6.1"

  @Option(help: ArgumentHelp("RAM in MiB.", valueName: "mib"))
  var memory = 1024

  @Option(help: "The number of CPUs.")
  var cpus = 2

  @Option(help: "The depth of the page tables: 4 or 5.")
  var paging = 4

  @Option(help: "How many plain processes the workload starts beside one of every kind.")
  var sleepers = 20

  @Flag(help: "Put the guest's RAM into huge pages, of which enough must be set aside (vm.nr_hugepages).")
  var hugePages = false

  @Flag(help: "Load the kernel's modules for disks in files and for an Ethernet device, where there are any.")
  var devices = false

  @Flag(
    help: "Boot Debian with systemd from a disk, which scripts/setup --debian makes, in place of busybox from memory.")
  var debian = false

  @Option(help: "What to append to the kernel's command line.")
  var append = ""

  func validate() throws {
    guard GuestOptions.Paging(rawValue: paging) != nil else {
      throw ValidationError("Page tables have 4 or 5 levels, not \(paging).")
    }
    guard (128...65536).contains(memory) else {
      throw ValidationError("A guest boots with 128 to 65536 MiB, not \(memory).")
    }
    guard (1...64).contains(cpus) else { throw ValidationError("A guest has 1 to 64 CPUs, not \(cpus).") }
    guard (0...20000).contains(sleepers) else { throw ValidationError("The workload starts 0 to 20000 processes.") }
  }

  var guest: GuestOptions {
    var guest = GuestOptions(
      kernel: kernel, memory: memory, cpus: cpus, paging: GuestOptions.Paging(rawValue: paging) ?? .fourLevel,
      sleepers: sleepers, commandLine: append)
    guest.hugePages = hugePages
    guest.hasDisk = debian
    if debian { guest.sleepers = nil }
    return guest
  }

  func boot() throws -> Guest {
    var options = guest
    let kernel = try KernelStore().kernel(kernel)
    let modules = devices ? kernel.deviceModules : []
    options.programs += modules.map(\.path)
    options.isBreakable = true
    if let module = kernel.module("break") { options.programs.append(module.path) }
    let guest = try Guest(options)
    for module in modules {
      let output = try guest.run("insmod /modules/\(module.lastPathComponent)")
      guard output.status == 0 else { throw LabError("\(module.lastPathComponent) was not loaded: \(output.text)") }
    }
    return guest
  }
}

struct Boot: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Boots a guest and keeps it until standard input ends or Ctrl-C.",
    discussion: """
      Prints one line when the guest is up: `memory=PATH pid=PID qmp=SOCKET`. The path is that of the guest's RAM, for \
      grassd --memory and grassctl --memory; the socket is for grassd --qmp. Then each line of standard input is run in the guest and its output printed; \
      a line that starts with `!` is sent without waiting for an answer (`!echo c > /proc/sysrq-trigger`); `prepare \
      NAME` and then `break NAME` break the guest as grasslab break does, `undo NAME` makes it good again, and each answers with \
      one line. `pause SECONDS` stops the machine's CPUs from outside for so long, and answers `pause=SECONDS`.
      """)

  @OptionGroup var options: BootOptions

  func run() throws {
    let guest = try options.boot()
    FileHandle.standardOutput.write(
      Data("memory=\(guest.memoryPath) pid=\(guest.processID) qmp=\(guest.statusSocket)\n".utf8))
    while let line = readLine() {
      let words = line.split(separator: " ", maxSplits: 1).map(String.init)
      if words.count == 2, ["break", "undo", "prepare"].contains(words[0]) {
        FileHandle.standardOutput.write(Data("\(BreakCommand.answer(words[0], words[1], in: guest))\n".utf8))
      } else if words.count == 2, words[0] == "pause", let seconds = Double(words[1]), (0...3600).contains(seconds) {
        try guest.pause()
        usleep(UInt32(seconds * 1e6))
        try guest.resume()
        FileHandle.standardOutput.write(Data("pause=\(words[1])\n".utf8))
      } else if line.hasPrefix("!") {
        try guest.send(String(line.dropFirst()))
      } else if !line.isEmpty {
        FileHandle.standardOutput.write(Data(try guest.run(line, timeout: .seconds(86400)).bytes))
      }
    }
    guest.shutDown()
  }
}

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Boots a guest, runs a command in it, prints its output, and exits with its status.")

  @OptionGroup var options: BootOptions

  @Argument(parsing: .postTerminator, help: "The command, after --.")
  var command: [String]

  func run() throws {
    let guest = try options.boot()
    let output = try guest.run(command.joined(separator: " "))
    FileHandle.standardOutput.write(Data(output.bytes))
    guest.shutDown()
    throw ExitCode(Int32(truncatingIfNeeded: output.status))
  }
}

struct Card: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Boots a guest, a card that watches it over PCI, and a remote host that asks the card over RDMA.",
    discussion: """
      Prints `url=URL memory=PATH` when all are up: grassd runs in the card over software RDMA and answers at URL. Then \
      each line of standard input is run in the remote guest and its output printed (`grassctl ps --host URL`); one \
      that starts with `card:` or `watched:` is run in that guest, and one with a `!` after that is sent without waiting \
      for an answer (`watched:!echo c > /proc/sysrq-trigger`).
      """)

  @OptionGroup var options: BootOptions

  @Flag(help: "Let the card be its own remote host, and boot one guest less.")
  var withoutRemote = false

  @Option(parsing: .singleValue, help: "Path of a program of this machine, for the card and the remote guest.")
  var tool: [String] = []

  @Option(parsing: .unconditional, help: "More arguments of grassd.")
  var daemon = ""

  func run() throws {
    let programs = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
    let lab = try CardLab(
      programs: programs, watching: options.guest, hasRemote: !withoutRemote, tools: tool, slots: daemon)
    FileHandle.standardOutput.write(Data("url=\(lab.url) memory=\(lab.watched?.memoryPath ?? "")\n".utf8))
    while var line = readLine().map({ $0[...] }) {
      var guest = lab.remote
      for (prefix, other) in [("card:", lab.card), ("watched:", lab.watched ?? lab.card)] where line.hasPrefix(prefix) {
        guest = other
        line = line.dropFirst(prefix.count)
      }
      if line.hasPrefix("!") {
        try guest.send(String(line.dropFirst()))
      } else if !line.isEmpty {
        FileHandle.standardOutput.write(Data(try guest.run(String(line), timeout: .seconds(86400)).bytes))
      }
    }
    lab.shutDown()
  }
}

struct Kernels: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Lists the kernels that can be booted.")

  func run() {
    for kernel in KernelStore().kernels() { print("\(kernel.label)\t\(kernel.release)\t\(kernel.image.path)") }
  }
}
