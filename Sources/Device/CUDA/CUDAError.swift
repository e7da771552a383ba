/// Why the CUDA driver could not do what was asked.
public struct CUDAError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The driver's library is not there or lacks a function; with the loader's words.
    case noDriver(String)
    /// There is no GPU of that number.
    case noDevice(Int, count: Int)
    /// A call failed: its name, and the driver's code, name and text for it.
    case call(String, code: UInt32, name: String, text: String)
    /// The driver's compiler did not take a program; with its words.
    case program(String)
  }

  public var reason: Reason

  public init(_ reason: Reason) { self.reason = reason }

  public var description: String {
    switch reason {
    case .noDriver(let why):
      "CUDA's driver could not be loaded: \(why); install NVIDIA's driver, which brings libcuda.so.1"
    case .noDevice(let number, let count):
      "there is no GPU \(number): the driver sees \(count); `grassd devices` lists them"
    case .call(let call, let code, let name, let text): "\(call) failed: \(name) (\(code)), \(text)"
    case .program(let why): "CUDA's driver does not take the device's program: \(why)"
    }
  }
}
