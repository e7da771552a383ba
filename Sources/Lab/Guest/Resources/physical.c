// A driver that shows all physical memory, read-only, to whoever maps /dev/physical at an offset: the address. It keeps no page
// from the kernel. Kernels with CONFIG_STRICT_DEVMEM do not let /dev/mem be used so.
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

static int physical_mmap(struct file *file, struct vm_area_struct *area) {
  if (area->vm_flags & VM_WRITE) return -EPERM;
  return remap_pfn_range(area, area->vm_start, area->vm_pgoff, area->vm_end - area->vm_start, area->vm_page_prot);
}

static const struct file_operations operations = {.owner = THIS_MODULE, .mmap = physical_mmap};
static struct miscdevice device = {
    .minor = MISC_DYNAMIC_MINOR, .name = "physical", .fops = &operations, .mode = 0400};

module_misc_device(device);
MODULE_LICENSE("GPL");
