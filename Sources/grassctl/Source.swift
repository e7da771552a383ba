import ArgumentParser
import KernelViews
import Memory

/// Where the memory to look at comes from: shared by all commands that look into it.
struct SourceOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The live host: shm:///PATH or tcp://127.0.0.1:PORT.", valueName: "url"))
  var host: String?

  @Option(help: ArgumentHelp("A memory image or a guest's RAM file.", valueName: "file"))
  var memory: String?

  @Option(help: "Seconds to wait for the host before giving up.")
  var timeout: Double = 5

  func validate() throws {
    if (host == nil) == (memory == nil) {
      throw ValidationError("Give either --host URL or --memory FILE: where is the memory to look at?")
    }
  }

  /// Opens the kernel, or says why not and exits.
  func openKernel() throws -> Kernel {
    do {
      if let memory { return try Kernel.open(try MemoryImage.open(memory)) }
      fatalError("replaced when links exist")
    } catch let error as MemoryImageError {
      writeNote("\(error)")
      throw ExitStatus.unreadable
    } catch let error as KernelError {
      writeNote("\(error)")
      throw ExitStatus.unreadable
    }
  }
}

extension SourceOptions {
  /// Runs a view, and turns its failure into a message and an exit status.
  func reading<T>(_ body: () throws -> T) throws -> T {
    do {
      return try body()
    } catch let error as KernelError {
      writeNote("\(error)")
      throw ExitStatus.unreadable
    }
  }
}

/// How a result is printed.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print a JSON array for programs.")
  var json = false
}
