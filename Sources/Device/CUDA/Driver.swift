import Glibc

/// The CUDA driver of this machine, loaded at run time: everything builds and runs without it.
///
/// The functions are those of the driver API (cuda.h), by their names and versions there.
final class Driver: Sendable {
  typealias Result = UInt32
  typealias Pointer = UInt64
  typealias Handle = OpaquePointer

  let initialize: @convention(c) (UInt32) -> Result
  let driverGetVersion: @convention(c) (UnsafeMutablePointer<Int32>) -> Result
  let getErrorName: @convention(c) (Result, UnsafeMutablePointer<UnsafePointer<CChar>?>) -> Result
  let getErrorString: @convention(c) (Result, UnsafeMutablePointer<UnsafePointer<CChar>?>) -> Result
  let deviceGetCount: @convention(c) (UnsafeMutablePointer<Int32>) -> Result
  let deviceGet: @convention(c) (UnsafeMutablePointer<Int32>, Int32) -> Result
  let deviceGetName: @convention(c) (UnsafeMutablePointer<CChar>, Int32, Int32) -> Result
  let deviceGetPCIBusID: @convention(c) (UnsafeMutablePointer<CChar>, Int32, Int32) -> Result
  let deviceGetAttribute: @convention(c) (UnsafeMutablePointer<Int32>, Int32, Int32) -> Result
  let deviceTotalMemory: @convention(c) (UnsafeMutablePointer<Int>, Int32) -> Result
  let contextCreate: @convention(c) (UnsafeMutablePointer<Handle?>, UInt32, Int32) -> Result
  let contextDestroy: @convention(c) (Handle?) -> Result
  let contextSetCurrent: @convention(c) (Handle?) -> Result
  let memoryAllocate: @convention(c) (UnsafeMutablePointer<Pointer>, Int) -> Result
  let memoryFree: @convention(c) (Pointer) -> Result
  let hostRegister: @convention(c) (UnsafeMutableRawPointer, Int, UInt32) -> Result
  let hostUnregister: @convention(c) (UnsafeMutableRawPointer) -> Result
  let hostGetDevicePointer: @convention(c) (UnsafeMutablePointer<Pointer>, UnsafeMutableRawPointer, UInt32) -> Result
  let copyToDevice: @convention(c) (Pointer, UnsafeRawPointer, Int) -> Result
  let copyToHost: @convention(c) (UnsafeMutableRawPointer, Pointer, Int) -> Result
  let memorySet: @convention(c) (Pointer, UInt8, Int) -> Result
  let pointerSetAttribute: @convention(c) (UnsafeRawPointer, UInt32, Pointer) -> Result
  /// Nil in drivers before CUDA 11.7.
  let memoryGetHandle: (@convention(c) (UnsafeMutableRawPointer, Pointer, Int, UInt32, UInt64) -> Result)?
  let linkCreate:
    @convention(c) (
      UInt32, UnsafeMutablePointer<UInt32>, UnsafeMutablePointer<UnsafeMutableRawPointer?>,
      UnsafeMutablePointer<Handle?>
    ) -> Result
  let linkAddData:
    @convention(c) (
      Handle?, UInt32, UnsafeMutableRawPointer, Int, UnsafePointer<CChar>, UInt32, UnsafeMutablePointer<UInt32>?,
      UnsafeMutablePointer<UnsafeMutableRawPointer?>?
    ) -> Result
  let linkComplete:
    @convention(c) (Handle?, UnsafeMutablePointer<UnsafeMutableRawPointer?>, UnsafeMutablePointer<Int>) -> Result
  let linkDestroy: @convention(c) (Handle?) -> Result
  let moduleLoadData: @convention(c) (UnsafeMutablePointer<Handle?>, UnsafeRawPointer) -> Result
  let moduleUnload: @convention(c) (Handle?) -> Result
  let moduleGetFunction: @convention(c) (UnsafeMutablePointer<Handle?>, Handle?, UnsafePointer<CChar>) -> Result
  let functionSetAttribute: @convention(c) (Handle?, Int32, Int32) -> Result
  let occupancy: @convention(c) (UnsafeMutablePointer<Int32>, Handle?, Int32, Int) -> Result
  let launch:
    @convention(c) (
      Handle?, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, Handle?,
      UnsafeMutablePointer<UnsafeMutableRawPointer?>?, UnsafeMutablePointer<UnsafeMutableRawPointer?>?
    ) -> Result
  let streamCreate: @convention(c) (UnsafeMutablePointer<Handle?>, UInt32) -> Result
  let streamDestroy: @convention(c) (Handle?) -> Result
  let streamQuery: @convention(c) (Handle?) -> Result

  /// The driver, or why there is none; looked for once.
  static let shared: Swift.Result<Driver, CUDAError> = Swift.Result { () throws(CUDAError) in try Driver() }

  private init() throws(CUDAError) {
    guard let library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) else {
      throw CUDAError(.noDriver(String(cString: dlerror())))
    }
    // Never closed: the driver has threads of its own.
    func find<Function>(_ name: String, as type: Function.Type) throws(CUDAError) -> Function {
      guard let symbol = dlsym(library, name) else { throw CUDAError(.noDriver("it has no \(name)")) }
      return unsafeBitCast(symbol, to: type)
    }
    initialize = try find("cuInit", as: (@convention(c) (UInt32) -> Result).self)
    driverGetVersion = try find(
      "cuDriverGetVersion", as: (@convention(c) (UnsafeMutablePointer<Int32>) -> Result).self)
    typealias Describe = @convention(c) (Result, UnsafeMutablePointer<UnsafePointer<CChar>?>) -> Result
    getErrorName = try find("cuGetErrorName", as: Describe.self)
    getErrorString = try find("cuGetErrorString", as: Describe.self)
    deviceGetCount = try find(
      "cuDeviceGetCount", as: (@convention(c) (UnsafeMutablePointer<Int32>) -> Result).self)
    deviceGet = try find("cuDeviceGet", as: (@convention(c) (UnsafeMutablePointer<Int32>, Int32) -> Result).self)
    typealias Name = @convention(c) (UnsafeMutablePointer<CChar>, Int32, Int32) -> Result
    deviceGetName = try find("cuDeviceGetName", as: Name.self)
    deviceGetPCIBusID = try find("cuDeviceGetPCIBusId", as: Name.self)
    deviceGetAttribute = try find(
      "cuDeviceGetAttribute", as: (@convention(c) (UnsafeMutablePointer<Int32>, Int32, Int32) -> Result).self)
    deviceTotalMemory = try find(
      "cuDeviceTotalMem_v2", as: (@convention(c) (UnsafeMutablePointer<Int>, Int32) -> Result).self)
    contextCreate = try find(
      "cuCtxCreate_v2", as: (@convention(c) (UnsafeMutablePointer<Handle?>, UInt32, Int32) -> Result).self)
    typealias End = @convention(c) (Handle?) -> Result
    contextDestroy = try find("cuCtxDestroy_v2", as: End.self)
    contextSetCurrent = try find("cuCtxSetCurrent", as: End.self)
    memoryAllocate = try find(
      "cuMemAlloc_v2", as: (@convention(c) (UnsafeMutablePointer<Pointer>, Int) -> Result).self)
    memoryFree = try find("cuMemFree_v2", as: (@convention(c) (Pointer) -> Result).self)
    hostRegister = try find(
      "cuMemHostRegister_v2", as: (@convention(c) (UnsafeMutableRawPointer, Int, UInt32) -> Result).self)
    hostUnregister = try find(
      "cuMemHostUnregister", as: (@convention(c) (UnsafeMutableRawPointer) -> Result).self)
    typealias Translate = @convention(c) (UnsafeMutablePointer<Pointer>, UnsafeMutableRawPointer, UInt32) -> Result
    hostGetDevicePointer = try find("cuMemHostGetDevicePointer_v2", as: Translate.self)
    copyToDevice = try find(
      "cuMemcpyHtoD_v2", as: (@convention(c) (Pointer, UnsafeRawPointer, Int) -> Result).self)
    copyToHost = try find(
      "cuMemcpyDtoH_v2", as: (@convention(c) (UnsafeMutableRawPointer, Pointer, Int) -> Result).self)
    memorySet = try find("cuMemsetD8_v2", as: (@convention(c) (Pointer, UInt8, Int) -> Result).self)
    pointerSetAttribute = try find(
      "cuPointerSetAttribute", as: (@convention(c) (UnsafeRawPointer, UInt32, Pointer) -> Result).self)
    typealias GetHandle = @convention(c) (UnsafeMutableRawPointer, Pointer, Int, UInt32, UInt64) -> Result
    memoryGetHandle = try? find("cuMemGetHandleForAddressRange", as: GetHandle.self)
    typealias LinkCreate =
      @convention(c) (
        UInt32, UnsafeMutablePointer<UInt32>, UnsafeMutablePointer<UnsafeMutableRawPointer?>,
        UnsafeMutablePointer<Handle?>
      ) -> Result
    linkCreate = try find("cuLinkCreate_v2", as: LinkCreate.self)
    typealias LinkAdd =
      @convention(c) (
        Handle?, UInt32, UnsafeMutableRawPointer, Int, UnsafePointer<CChar>, UInt32, UnsafeMutablePointer<UInt32>?,
        UnsafeMutablePointer<UnsafeMutableRawPointer?>?
      ) -> Result
    linkAddData = try find("cuLinkAddData_v2", as: LinkAdd.self)
    typealias LinkComplete =
      @convention(c) (Handle?, UnsafeMutablePointer<UnsafeMutableRawPointer?>, UnsafeMutablePointer<Int>) -> Result
    linkComplete = try find("cuLinkComplete", as: LinkComplete.self)
    linkDestroy = try find("cuLinkDestroy", as: End.self)
    typealias Load = @convention(c) (UnsafeMutablePointer<Handle?>, UnsafeRawPointer) -> Result
    moduleLoadData = try find("cuModuleLoadData", as: Load.self)
    moduleUnload = try find("cuModuleUnload", as: End.self)
    typealias GetFunction = @convention(c) (UnsafeMutablePointer<Handle?>, Handle?, UnsafePointer<CChar>) -> Result
    moduleGetFunction = try find("cuModuleGetFunction", as: GetFunction.self)
    functionSetAttribute = try find(
      "cuFuncSetAttribute", as: (@convention(c) (Handle?, Int32, Int32) -> Result).self)
    typealias Occupancy = @convention(c) (UnsafeMutablePointer<Int32>, Handle?, Int32, Int) -> Result
    occupancy = try find("cuOccupancyMaxActiveBlocksPerMultiprocessor", as: Occupancy.self)
    typealias Launch =
      @convention(c) (
        Handle?, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, Handle?,
        UnsafeMutablePointer<UnsafeMutableRawPointer?>?, UnsafeMutablePointer<UnsafeMutableRawPointer?>?
      ) -> Result
    launch = try find("cuLaunchKernel", as: Launch.self)
    streamCreate = try find(
      "cuStreamCreate", as: (@convention(c) (UnsafeMutablePointer<Handle?>, UInt32) -> Result).self)
    streamDestroy = try find("cuStreamDestroy_v2", as: End.self)
    streamQuery = try find("cuStreamQuery", as: End.self)
    try check("cuInit", initialize(0))
  }

  /// Throws what the driver says of a failed call.
  func check(_ call: String, _ result: Result) throws(CUDAError) {
    guard result != 0 else { return }
    func text(_ function: (Result, UnsafeMutablePointer<UnsafePointer<CChar>?>) -> Result) -> String {
      var text: UnsafePointer<CChar>?
      return function(result, &text) == 0 ? text.map { String(cString: $0) } ?? "" : "unknown"
    }
    throw CUDAError(.call(call, code: result, name: text(getErrorName), text: text(getErrorString)))
  }
}
