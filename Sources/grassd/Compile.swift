import ArgumentParser
import Glibc
import KernelInfo
import KernelViews
import LLView
import Memory
import Monitor

/// Compiles a monitor for the kernel of a watched host.
struct Compile: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compile a monitor for the kernel in a host's memory, and run it there or keep its code.",
    discussion: """
      Binds SOURCE, a monitor in C, to the kernel found in FILE: its fields, its variables, its page tables. Prints what \
      the monitor's run on this machine's processor gives, one record a line, or writes its code to OUT.

      EXIT STATUS: 0 where the monitor fits the kernel and its run was whole; 1 with the reason on standard error; 64 \
      for wrong usage.
      """)

  @Argument(help: "The monitor's source.")
  var source: String

  @Option(help: "The watched memory: a guest's shared RAM file, a raw image, an ELF core, or LiME.")
  var memory: String

  @Option(name: .shortAndLong, help: "Where to write the code to.")
  var output: String?

  @Option(help: ArgumentHelp("The processor: 'native', or 'sm_90' and the like for a GPU's.", valueName: "name"))
  var target: String = "native"

  @Option(help: "How many lanes share the work where it is run.")
  var lanes: Int = 1

  func validate() throws {
    guard parsedTarget != nil else { throw ValidationError("--target takes native, or sm_ and a number.") }
    guard output != nil || target == "native" else { throw ValidationError("--target \(target) needs --output.") }
    guard (1...4096).contains(lanes) else { throw ValidationError("--lanes takes 1 to 4096.") }
  }

  private var parsedTarget: Target? {
    if target == "native" { return .native }
    guard target.hasPrefix("sm_"), let number = Int(target.dropFirst(3)), (50...200).contains(number) else {
      return nil
    }
    return .nvidia(capability: number)
  }

  func run() throws {
    do {
      let kernel = try Kernel.open(try MemoryImage.open(memory))
      let bound = try BoundMonitor(
        try FrontEnd().compile(source), name: FrontEnd.name(of: source), for: KernelNames(kernel.found))
      if let output {
        try write(try bound.code(for: parsedTarget ?? .native), to: output)
      } else if let memory = kernel.memory as? FileMemory {
        let result = try NativeMonitor(bound).run(
          on: WatchedMachine(memory, space: kernel.addressSpace, slide: kernel.found.coreInfo.kernelOffset),
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
