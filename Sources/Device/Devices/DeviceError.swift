/// Why a device could not run the monitor.
public struct DeviceError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The region is not laid out as this version does it.
    case badRegion
    case threadFailed(String)
    /// A file holds no program for a device; with its path.
    case badProgram(String, String)
    /// A program is for another kind of device.
    case wrongTarget(String)
    /// The GPU or its driver cannot do what was asked.
    case gpu(String)
    /// The region's memory cannot be mapped into the GPU; with the path and the driver's reason.
    case unpinnableRegion(String, String)
    /// A processor cannot poll what is not host memory.
    case regionElsewhere
    /// The GPU does not see what changes in host memory.
    case staleView(gpu: String)
    /// The GPU can map memory only in whole pages.
    case notInPages
    /// There are no keys to be had, or they cannot be kept.
    case keys(String)
  }

  public var reason: Reason

  public init(_ reason: Reason) { self.reason = reason }

  public var description: String {
    switch reason {
    case .badRegion: "the CPU device: the shared region's layout is not valid; make the region with this version"
    case .threadFailed(let why): "the CPU device: \(why)"
    case .badProgram(let path, let why): "\(path): no program for a device: \(why)"
    case .wrongTarget(let why): "the program does not fit the device: \(why); make it with `grassd compile --target`"
    case .gpu(let why): "the GPU device: \(why)"
    case .unpinnableRegion(let path, let why):
      "the GPU device: the region at \(path) cannot be mapped into the GPU (\(why)); Linux pins only shared memory: "
        + "put it on a tmpfs, such as shm:///dev/shm/grass"
    case .regionElsewhere:
      "the device: the region lies in the memory of another; the CPU device needs it in host memory, a GPU in host memory or its own"
    case .staleView(let gpu):
      "the GPU device: \(gpu) does not see what changes in host memory; what it reported would be old"
    case .keys(let why): "the device's keys: \(why)"
    case .notInPages:
      "the GPU device: the memory's parts are not whole pages; give a guest's RAM file or a raw image"
    }
  }
}
