//! The limits and devices in `HostConfig` of `docker container inspect`.

use carrack_container::{
    CgroupMode, DeviceMapping, DeviceRate, DeviceRequest, DeviceSettings, DeviceWeight, Resources, Ulimit,
};
use serde_json::{Value, json};

use crate::settings::ContainerSettings;

/// Limits; zero where there is none.
pub fn resources(asked: &Resources, settings: &ContainerSettings) -> Value {
    let ulimit = |limit: &Ulimit| json!({"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard});
    let weight = |device: &DeviceWeight| json!({"Path": device.path, "Weight": device.weight});
    let rates = |devices: &[DeviceRate]| -> Vec<Value> {
        devices.iter().map(|device| json!({"Path": device.path, "Rate": device.rate})).collect()
    };
    json!({
        "Memory": asked.memory_bytes.unwrap_or(0),
        "MemorySwap": asked.memory_swap_bytes.unwrap_or(0),
        "MemoryReservation": asked.memory_reservation_bytes.unwrap_or(0),
        "MemorySwappiness": asked.memory_swappiness,
        "OomKillDisable": asked.oom_kill_disable.unwrap_or(false),
        "NanoCpus": asked.nano_cpus.unwrap_or(0),
        "CpuShares": asked.cpu_shares.unwrap_or(0),
        "CpuPeriod": asked.cpu_period_us.unwrap_or(0),
        "CpuQuota": asked.cpu_quota_us.unwrap_or(0),
        "CpuRealtimePeriod": asked.cpu_rt_period_us.unwrap_or(0),
        "CpuRealtimeRuntime": asked.cpu_rt_runtime_us.unwrap_or(0),
        "CpusetCpus": asked.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": asked.cpuset_mems.clone().unwrap_or_default(),
        "PidsLimit": asked.pids_limit.unwrap_or(settings.pids_limit),
        "BlkioWeight": asked.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": asked.blkio_weight_devices.iter().map(weight).collect::<Vec<_>>(),
        "BlkioDeviceReadBps": rates(&asked.device_read_bps),
        "BlkioDeviceWriteBps": rates(&asked.device_write_bps),
        "BlkioDeviceReadIOps": rates(&asked.device_read_iops),
        "BlkioDeviceWriteIOps": rates(&asked.device_write_iops),
        "CgroupParent": asked.cgroup_parent.clone().unwrap_or_default(),
        // Podman's names; Docker has no such settings.
        "CgroupConf": asked.cgroup_conf,
        "CgroupManager": asked.cgroup_manager.name(),
        "Cgroups": match asked.cgroups {
            CgroupMode::Enabled => "default",
            CgroupMode::Disabled => "disabled",
            CgroupMode::NoConmon => "no-conmon",
        },
        "Ulimits": asked.ulimits.iter().map(ulimit).collect::<Vec<_>>(),
    })
}

/// Devices of the host.
pub fn devices(devices: &DeviceSettings) -> Value {
    let mapping = |device: &DeviceMapping| {
        json!({
            "PathOnHost": device.source, "PathInContainer": device.destination,
            "CgroupPermissions": device.access,
        })
    };
    let request = |request: &DeviceRequest| {
        let (driver, count, ids) = match request {
            DeviceRequest::Cdi(names) => ("cdi", 0, json!(names)),
            DeviceRequest::GpuCount(count) => ("", i64::from(*count), Value::Null),
            DeviceRequest::AllGpus => ("", -1, Value::Null),
            DeviceRequest::Gpus(ids) => ("", 0, json!(ids)),
        };
        let capabilities = if driver == "cdi" { Value::Null } else { json!([["gpu"]]) };
        json!({
            "Driver": driver, "Count": count, "DeviceIDs": ids, "Capabilities": capabilities, "Options": {},
        })
    };
    json!({
        "Devices": devices.devices.iter().map(mapping).collect::<Vec<_>>(),
        "DeviceCgroupRules": devices.cgroup_rules,
        "DeviceRequests": devices.requests.iter().map(request).collect::<Vec<_>>(),
    })
}
