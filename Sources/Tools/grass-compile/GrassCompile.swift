import ArgumentParser
import Devices
import Glibc
import Host
import KernelInfo
import LLView
import LinuxKernel
import Memory
import Records
import ToolOptions

/// Compiles a monitor for the kernel of a watched host: what `grassd compile` runs, and the one program that needs LLVM.
@main
struct GrassCompile: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "grassd compile",
    abstract: "Compile monitors for the kernel of a host, and run one there or keep their code.",
    discussion: """
      Binds each SOURCE, a monitor in C or Embedded Swift, to the kernel found in FILE: its fields, its variables. With --output, writes \
      all of them as one program for a device; it fits every boot of that build of the kernel, and `grassd --monitors` \
      takes it where there is neither a compiler nor LLVM. Without, runs the one SOURCE on this machine's processor and \
      prints its records, one a line.

      EXIT STATUS: 0 where the monitors fit the kernel and the run was whole; 1 with the reason on standard error; 64 \
      for wrong usage.
      """,
    version: "grass-compile \(Version.current)")

  @Argument(help: "The monitors' sources.")
  var sources: [String] = []

  @Option(help: "The watched memory: a guest's shared RAM file, a raw image, an ELF core, or LiME.")
  var memory: String

  @Option(name: .shortAndLong, help: "Where to write the program to.")
  var output: String?

  @Option(help: ArgumentHelp("The processor: 'native', or 'sm_90' and the like for a GPU's.", valueName: "name"))
  var target: String = "native"

  @Option(help: "How many lanes share the work where it is run.")
  var lanes: Int = 1

  @OptionGroup var known: KnownOptions

  @Flag(help: "Add the detectors that come with GRASS, which the device runs by itself.")
  var detectors = false

  @Flag(help: "For a GPU: make a program for regions with keys (grassd --keys), and for no others.")
  var keys = false

  func validate() throws {
    guard parsedTarget != nil else { throw ValidationError("--target takes native, or sm_ and a number.") }
    guard output != nil || (target == "native" && sources.count == 1) else {
      throw ValidationError("One monitor runs on this machine's processor; all else needs --output.")
    }
    guard !keys || target != "native" else {
      throw ValidationError("--keys is for a GPU's program; a processor's serves regions with keys and without.")
    }
    guard (1...4096).contains(lanes) else { throw ValidationError("--lanes takes 1 to 4096.") }
  }

  private var parsedTarget: Target? {
    if target == "native" { return .native }
    guard target.hasPrefix("sm_"), let number = Int(target.dropFirst(3)), (70...200).contains(number) else {
      return nil
    }
    return .nvidia(capability: number)
  }

  func run() throws {
    do {
      let kernel = try Kernel.open(
        try MemoryImage.openReadable(memory), known: known.folder)
      for note in kernel.notes { fail(note) }
      let names = KernelNames(kernel.found)
      var bound = try sources.map { source in
        try BoundMonitor(try FrontEnd().compile(source), name: FrontEnd.name(of: source), for: names)
      }
      if detectors {
        let (built, refused) = BuiltInDetectors.bound(to: names)
        for error in refused { fail("a detector is left out: \(error)") }
        bound += built
      }
      // What remote hosts may ask for has the first numbers.
      bound = bound.filter { !$0.isDetector } + bound.filter { $0.isDetector }
      if let output {
        try write(try DeviceProgram.code(bound, for: parsedTarget ?? .native, hasKeys: keys), to: output)
      } else if let memory = kernel.memory as? FileMemory {
        let result = try NativeMonitor(bound[0]).run(
          on: WatchedMachine(memory, space: kernel.addressSpace, slide: kernel.found.slide),
          lanes: lanes)
        for record in result.records {
          let digits = record.bytes.map { byte in byte < 16 ? "0\(String(byte, radix: 16))" : String(byte, radix: 16) }
          print(record.kind, digits.joined())
        }
        for fault in result.faults { fail("partial: \(fault)") }
        if result.isPartial { throw ExitCode(1) }
      }
    } catch let error as ExitCode {
      throw error
    } catch {
      fail("\(error)")
      throw ExitCode(1)
    }
  }

  private func fail(_ text: String) {
    let text = Array("grassd compile: \(text)\n".utf8)
    _ = Glibc.write(STDERR_FILENO, text, text.count)
  }

  private func write(_ code: [UInt8], to path: String) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    defer { if file >= 0 { close(file) } }
    guard file >= 0, Glibc.write(file, code, code.count) == code.count else {
      fail("\(path): \(String(cString: strerror(errno)))")
      throw ExitCode(1)
    }
  }
}
