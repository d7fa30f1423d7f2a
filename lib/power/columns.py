"""The columns of household power, and what UCI's file calls them."""

COLUMNS = {
    "power_kw": "Global_active_power",
    "reactive_power_kvar": "Global_reactive_power",
    "voltage_v": "Voltage",
    "current_a": "Global_intensity",
    "sub_metering_1_wh": "Sub_metering_1",
    "sub_metering_2_wh": "Sub_metering_2",
    "sub_metering_3_wh": "Sub_metering_3",
}
METERS = tuple(column for column in COLUMNS if column.endswith("_wh"))
