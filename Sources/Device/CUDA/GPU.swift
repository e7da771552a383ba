import CLinux

/// One GPU as the driver lists it.
///
/// Has no state.
public struct GPU: Sendable {
  public let number: Int
  public let name: String
  /// Its address on the PCI bus, such as `0000:3b:00.0`.
  public let busID: String
  /// The compute capability, 90 for 9.0.
  public let capability: Int
  public let multiprocessors: Int
  /// Bytes of its own memory.
  public let memory: Int
  /// Whether it can read host memory that a process maps.
  public let mapsHostMemory: Bool
  /// Whether such a mapping can be one that the GPU cannot write.
  public let mapsReadOnly: Bool
  /// Whether its memory can be handed to a network card as a dma-buf.
  public let exportsMemory: Bool
  let device: Int32

  /// All GPUs that the driver sees.
  public static func all() throws(CUDAError) -> [GPU] {
    let driver = try Driver.shared.get()
    var count: Int32 = 0
    try driver.check("cuDeviceGetCount", driver.deviceGetCount(&count))
    var all: [GPU] = []
    for number in 0..<max(0, count) { all.append(try GPU(number, driver)) }
    return all
  }

  /// Lets GPUs map so many bytes of host memory beyond what this machine reports as its own.
  ///
  /// The driver asks the machine for its memory (`sysinfo`) when it is first used, and refuses to map more: so this comes
  /// before all else here, and does nothing later.
  public static func allowHostMemory(beyondReported byteCount: UInt64) {
    grass_report_more_memory(byteCount)
  }

  public static func number(_ number: Int) throws(CUDAError) -> GPU {
    let all = try all()
    guard all.indices.contains(number) else { throw CUDAError(.noDevice(number, count: all.count)) }
    return all[number]
  }

  /// The newest version of CUDA that the driver knows, 13000 for 13.0.
  public static func driverVersion() throws(CUDAError) -> Int {
    let driver = try Driver.shared.get()
    var version: Int32 = 0
    try driver.check("cuDriverGetVersion", driver.driverGetVersion(&version))
    return Int(version)
  }

  private init(_ number: Int32, _ driver: Driver) throws(CUDAError) {
    var device: Int32 = 0
    try driver.check("cuDeviceGet", driver.deviceGet(&device, number))
    // The numbers are those of CUdevice_attribute.
    func attribute(_ attribute: Int32) throws(CUDAError) -> Int {
      var value: Int32 = 0
      try driver.check("cuDeviceGetAttribute", driver.deviceGetAttribute(&value, attribute, device))
      return Int(value)
    }
    func text(
      _ call: String, _ get: (UnsafeMutablePointer<CChar>, Int32, Int32) -> Driver.Result
    ) throws(CUDAError) -> String {
      var text = [CChar](repeating: 0, count: 256)
      try driver.check(call, get(&text, 255, device))
      return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    var memory = 0
    try driver.check("cuDeviceTotalMem", driver.deviceTotalMemory(&memory, device))
    self.number = Int(number)
    self.device = device
    self.memory = memory
    name = try text("cuDeviceGetName", driver.deviceGetName)
    busID = try text("cuDeviceGetPCIBusId", driver.deviceGetPCIBusID)
    capability = try attribute(75) * 10 + attribute(76)
    multiprocessors = try attribute(16)
    let (maps, registers) = (try attribute(19), try attribute(99))
    mapsHostMemory = maps != 0 && registers != 0
    mapsReadOnly = try attribute(113) != 0
    exportsMemory = try attribute(124) != 0
  }
}
